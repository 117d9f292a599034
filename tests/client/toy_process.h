// toy_server as a process that can be killed and started again on its port.
#pragma once

#include <csignal>
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
  // Replicas share `repository` and `state`, the folder of the token key.
  // `flow` publishes a version first; see toy_server.cc.
  ToyProcess(std::string repository, std::string state,
             std::vector<std::string> flow = {}, int port = 0)
      : repository_(std::move(repository)),
        state_(std::move(state)),
        port_(port) {
    Start(std::move(flow));
  }

  void Start(std::vector<std::string> flow = {}) {
    const std::string out = log_.File("stdout");
    std::ofstream(out).close();
    std::vector<std::string> arguments = {TOY_SERVER, repository_, state_,
                                          absl::StrCat(port_)};
    arguments.insert(arguments.end(), flow.begin(), flow.end());
    process_ = std::make_unique<Process>(arguments, log_.path());
    const absl::Time until = absl::Now() + absl::Seconds(20);
    std::string word;
    while (absl::Now() < until) {
      std::ifstream file(out);
      if (file >> word >> port_ && word == "ready") return;
      absl::SleepFor(absl::Milliseconds(5));
    }
    FAIL() << "toy_server did not start";
  }
  void Kill() {
    process_->Signal(SIGKILL);
    process_->Wait();
  }
  void Signal(int signal) { process_->Signal(signal); }
  Finished Wait() { return process_->Wait(); }
  int port() const { return port_; }
  std::string target() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  const std::string repository_;
  const std::string state_;
  TemporaryDirectory log_;
  int port_;
  std::unique_ptr<Process> process_;
};

}  // namespace latticed::testing
