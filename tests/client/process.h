// Runs a program and keeps what it said.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace latticed::testing {

struct Finished {
  int code = -1;  // exit code; 128 + signal if one killed it
  std::string out;
  std::string err;
};

// Standard output and error go to files of `directory`, which must exist.
class Process {
 public:
  Process(const std::vector<std::string>& arguments,
          const std::string& directory);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int signal);
  pid_t id() const { return pid_; }
  // Kills it after `patience`.
  Finished Wait(absl::Duration patience = absl::Seconds(60));

 private:
  std::string directory_;
  pid_t pid_ = -1;
};

}  // namespace latticed::testing
