#include "tests/client/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace latticed::testing {
namespace {

std::string Contents(const std::string& path) {
  std::ostringstream contents;
  contents << std::ifstream(path).rdbuf();
  return contents.str();
}

}  // namespace

Process::Process(const std::vector<std::string>& arguments,
                 const std::string& directory)
    : directory_(directory) {
  const std::string out = absl::StrCat(directory, "/stdout");
  const std::string err = absl::StrCat(directory, "/stderr");
  std::vector<char*> argv;
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ != 0) return;
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  dup2(open(out.c_str(), flags, 0600), STDOUT_FILENO);
  dup2(open(err.c_str(), flags, 0600), STDERR_FILENO);
  execv(argv[0], argv.data());
  _exit(127);
}

Process::~Process() {
  if (pid_ > 0) Wait(absl::ZeroDuration());
}

void Process::Signal(int signal) {
  // kill(-1) would reach every process of this user.
  if (pid_ > 0) kill(pid_, signal);
}

Finished Process::Wait(absl::Duration patience) {
  const absl::Time until = absl::Now() + patience;
  int status = 0;
  if (pid_ <= 0) return Finished();
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (absl::Now() > until) {
      kill(pid_, SIGKILL);
      waitpid(pid_, &status, 0);
      break;
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  pid_ = -1;
  Finished finished;
  finished.code =
      WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  finished.out = Contents(absl::StrCat(directory_, "/stdout"));
  finished.err = Contents(absl::StrCat(directory_, "/stderr"));
  return finished;
}

}  // namespace latticed::testing
