// toy_server as a process that can be killed and started again on its port.
#pragma once

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/client/process.h"
#include "tests/support/temporary_directory.h"

namespace latticed::testing {

class ToyProcess {
 public:
  // Replicas share `repository` and `key_file`, which is made if it is not
  // there. `flow` publishes a version first; see toy_server.cc.
  ToyProcess(std::string repository, std::string key_file,
             std::vector<std::string> flow = {})
      : repository_(std::move(repository)), key_file_(std::move(key_file)) {
    if (!std::filesystem::exists(key_file_)) {
      std::ofstream(key_file_) << "a key of test servers, 32 bytes.";
      std::filesystem::permissions(key_file_,
                                   std::filesystem::perms::owner_read);
    }
    Start(std::move(flow));
  }

  void Start(std::vector<std::string> flow = {}) {
    const std::string out = log_.File("stdout");
    std::ofstream(out).close();
    std::vector<std::string> arguments = {
        TOY_SERVER, repository_, state_.path(), key_file_, absl::StrCat(port_)};
    arguments.insert(arguments.end(), flow.begin(), flow.end());
    process_ = std::make_unique<Process>(arguments, log_.path());
    const absl::Time until = absl::Now() + absl::Seconds(20);
    std::string word;
    while (absl::Now() < until) {
      std::ifstream file(out);
      if (file >> word >> port_ && word == "ready") return;
      absl::SleepFor(absl::Milliseconds(5));
    }
    process_->Signal(SIGKILL);
    const Finished finished = process_->Wait();
    FAIL() << "toy_server did not start: " << finished.code << " '"
           << finished.out << "' " << finished.err;
  }
  void Kill() {
    process_->Signal(SIGKILL);
    process_->Wait();
  }
  void Signal(int signal) { process_->Signal(signal); }
  Finished Wait() { return process_->Wait(); }
  int port() const { return port_; }
  pid_t process_id() const { return process_->id(); }
  std::string target() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  const std::string repository_;
  const std::string key_file_;
  TemporaryDirectory state_;
  TemporaryDirectory log_;
  int port_ = 0;
  std::unique_ptr<Process> process_;
};

}  // namespace latticed::testing
