// A server of toy flows as a process, so that it can be killed:
//
//   toy_server REPOSITORY STATE_DIRECTORY KEY_FILE PORT [name=value ...]
//
// Publishes model "toy" first if names are given (scale, tile, l0, l1,
// delay_us, nan_every, numerics, free_field); calls_max and buffer_mib are
// limits of the server. Prints "ready PORT"; ends at SIGTERM.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/server.h"
#include "tests/server/toy_sampler.h"

int main(int argc, char** argv) {
  using latticed::ToyFlow;
  if (argc < 5) return 2;
  latticed::Config config;
  if (argc > 5) {
    ToyFlow flow;
    for (int i = 5; i < argc; ++i) {
      const std::pair<std::string, std::string> setting =
          absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
      const double value = std::atof(setting.second.c_str());
      if (setting.first == "scale") flow.scale = static_cast<float>(value);
      if (setting.first == "tile") flow.tile = static_cast<uint32_t>(value);
      if (setting.first == "l0") flow.l0 = static_cast<uint32_t>(value);
      if (setting.first == "l1") flow.l1 = static_cast<uint32_t>(value);
      if (setting.first == "delay_us") flow.delay_us = static_cast<int>(value);
      if (setting.first == "nan_every") {
        flow.nan_every = static_cast<int>(value);
      }
      if (setting.first == "numerics") flow.numerics = static_cast<int>(value);
      if (setting.first == "free_field") flow.free_field = value != 0;
      if (setting.first == "calls_max") {
        config.calls_max = config.calls_per_peer_max = static_cast<int>(value);
      }
      if (setting.first == "buffer_mib") {
        config.buffer_bytes_max = static_cast<int64_t>(value) << 20;
      }
    }
    latticed::PublishToy(argv[1], flow);
  }
  // Before any thread exists, so that all of them inherit it.
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigprocmask(SIG_BLOCK, &stop, nullptr);
  config.repository = argv[1];
  config.state_directory = argv[2];
  config.chain_token_key_file = argv[3];
  config.gate_draws = 0;
  config.listen = absl::StrCat("127.0.0.1:", argv[4]);
  config.http_listen = "127.0.0.1:0";
  config.admin_listen = "127.0.0.1:0";
  config.poll_seconds = 0.1;
  config.smoke_draws = 0;
  config.drain_seconds = 5;
  auto server = latticed::Server::Start(config, latticed::ToySamplers(),
                                        latticed::ToyCouplings());
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  std::printf("ready %d\n", (*server)->grpc_port());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&stop, &signal);
  (*server)->Drain();
  return 0;
}
