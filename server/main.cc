// latticed: flags -> Config -> parts -> serve.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/str_cat.h"
#include "core/device.h"
#include "core/factory.h"
#include "core/http/address.h"
#include "core/kernels/parallel.h"
#include "latticed/build_id.h"
#include "server/config.h"
#include "server/log.h"
#include "server/server.h"

namespace {

const latticed::Config& Defaults() {
  static const auto* const kDefaults = new latticed::Config();
  return *kDefaults;
}

}  // namespace

ABSL_FLAG(std::string, repository, "",
          "Directory of published flows (required).");
ABSL_FLAG(std::string, listen, Defaults().listen,
          "Address of the gRPC service; port 0 takes any free one.");
ABSL_FLAG(std::string, http_listen, Defaults().http_listen,
          "Address of /metrics, /healthz, /readyz and the status page.");
ABSL_FLAG(std::string, admin_listen, Defaults().admin_listen,
          "Address of AdminService, reflection and channelz; empty: none.");
ABSL_FLAG(std::string, tls_certificate_file, "",
          "TLS for both gRPC listeners: the certificate and its chain, PEM. "
          "Read again when it changes.");
ABSL_FLAG(std::string, tls_key_file, "", "Its private key, PEM, mode 600.");
ABSL_FLAG(std::string, tls_client_ca_file, "",
          "Clients must show a certificate that this CA has signed, PEM.");
ABSL_FLAG(std::string, token_file, "",
          "Principals, one a line: name, role (observer, sampler or admin), "
          "SHA-256 of the token. Read again when it changes.");
ABSL_FLAG(double, credentials_seconds, Defaults().credentials_seconds,
          "Time between looks at certificates and tokens.");
ABSL_FLAG(std::string, state_directory, "",
          "The server's own state, such as the chain-token key.");
ABSL_FLAG(std::string, chain_token_key_file, "",
          "Key that replicas share, so that any continues a chain; by "
          "default one is created in --state_directory.");
ABSL_FLAG(bool, insecure_allow_remote, false,
          "Listen on addresses that other machines reach, also without TLS or "
          "authentication.");
ABSL_FLAG(double, poll_seconds, Defaults().poll_seconds,
          "Time between looks at the repository.");
ABSL_FLAG(int, threads, Defaults().threads,
          "Threads that draw; 0: one a core.");
ABSL_FLAG(int, reply_threads, Defaults().reply_threads,
          "Threads that encode replies.");
ABSL_FLAG(std::string, kernel, Defaults().kernel,
          "fused, or plain: LibTorch operations, which a GPU always takes.");
ABSL_FLAG(std::string, device, Defaults().device, "cpu, cuda or cuda:n.");
ABSL_FLAG(int, calls_max, Defaults().calls_max, "Calls that draw at one time.");
ABSL_FLAG(int, calls_per_peer_max, Defaults().calls_per_peer_max,
          "Of them, calls of one token, certificate or address.");
ABSL_FLAG(double, draws_per_second_per_principal,
          Defaults().draws_per_second_per_principal,
          "Configurations that one token, certificate or address may draw; 0: "
          "no limit.");
ABSL_FLAG(int64_t, buffer_bytes_max, Defaults().buffer_bytes_max,
          "Memory for configurations drawn and not yet sent.");
ABSL_FLAG(int, blocks_ahead, Defaults().blocks_ahead,
          "Blocks drawn ahead of the one a client reads.");
ABSL_FLAG(int, models_max, Defaults().models_max, "Models served.");
ABSL_FLAG(int64_t, smoke_draws, Defaults().smoke_draws,
          "Draws that must be finite before a version goes live.");
ABSL_FLAG(int64_t, gate_draws, Defaults().gate_draws,
          "Draws of the gate that a version passes to go live; 0: no gate.");
ABSL_FLAG(double, gate_seconds, Defaults().gate_seconds,
          "Longest time that gating one version may take.");
ABSL_FLAG(bool, automatic_rollback, Defaults().automatic_rollback,
          "Go back to the previous version when production draws of the live "
          "one are worse than at the gate, or not finite.");
ABSL_FLAG(std::string, audit_peers, "",
          "Replicas to compare draws with, HOST:PORT,...; empty: none.");
ABSL_FLAG(double, audit_seconds, Defaults().audit_seconds,
          "Time between comparisons.");
ABSL_FLAG(std::string, audit_ca_file, "",
          "TLS towards them: the CA that signs their certificates, PEM. The "
          "server's own certificate is shown.");
ABSL_FLAG(std::string, audit_token_file, "",
          "A token of a sampler for them, mode 600.");
ABSL_FLAG(double, stall_seconds, Defaults().stall_seconds,
          "A client that does not read for so long loses its stream.");
ABSL_FLAG(double, lame_duck_seconds, Defaults().lame_duck_seconds,
          "Between health NOT_SERVING and refusing calls.");
ABSL_FLAG(double, drain_seconds, Defaults().drain_seconds,
          "For open calls to end by themselves when stopping.");

namespace latticed {
namespace {

Config ConfigFromFlags() {
  Config config;
  config.repository = absl::GetFlag(FLAGS_repository);
  config.listen = absl::GetFlag(FLAGS_listen);
  config.http_listen = absl::GetFlag(FLAGS_http_listen);
  config.admin_listen = absl::GetFlag(FLAGS_admin_listen);
  config.tls_certificate_file = absl::GetFlag(FLAGS_tls_certificate_file);
  config.tls_key_file = absl::GetFlag(FLAGS_tls_key_file);
  config.tls_client_ca_file = absl::GetFlag(FLAGS_tls_client_ca_file);
  config.token_file = absl::GetFlag(FLAGS_token_file);
  config.credentials_seconds = absl::GetFlag(FLAGS_credentials_seconds);
  config.state_directory = absl::GetFlag(FLAGS_state_directory);
  config.chain_token_key_file = absl::GetFlag(FLAGS_chain_token_key_file);
  config.insecure_allow_remote = absl::GetFlag(FLAGS_insecure_allow_remote);
  config.poll_seconds = absl::GetFlag(FLAGS_poll_seconds);
  config.threads = absl::GetFlag(FLAGS_threads);
  config.reply_threads = absl::GetFlag(FLAGS_reply_threads);
  config.kernel = absl::GetFlag(FLAGS_kernel);
  config.device = absl::GetFlag(FLAGS_device);
  config.calls_max = absl::GetFlag(FLAGS_calls_max);
  config.calls_per_peer_max = absl::GetFlag(FLAGS_calls_per_peer_max);
  config.draws_per_second_per_principal =
      absl::GetFlag(FLAGS_draws_per_second_per_principal);
  config.buffer_bytes_max = absl::GetFlag(FLAGS_buffer_bytes_max);
  config.blocks_ahead = absl::GetFlag(FLAGS_blocks_ahead);
  config.models_max = absl::GetFlag(FLAGS_models_max);
  config.smoke_draws = absl::GetFlag(FLAGS_smoke_draws);
  config.gate_draws = absl::GetFlag(FLAGS_gate_draws);
  config.gate_seconds = absl::GetFlag(FLAGS_gate_seconds);
  config.automatic_rollback = absl::GetFlag(FLAGS_automatic_rollback);
  config.audit_peers = absl::GetFlag(FLAGS_audit_peers);
  config.audit_seconds = absl::GetFlag(FLAGS_audit_seconds);
  config.audit_ca_file = absl::GetFlag(FLAGS_audit_ca_file);
  config.audit_token_file = absl::GetFlag(FLAGS_audit_token_file);
  config.stall_seconds = absl::GetFlag(FLAGS_stall_seconds);
  config.lame_duck_seconds = absl::GetFlag(FLAGS_lame_duck_seconds);
  config.drain_seconds = absl::GetFlag(FLAGS_drain_seconds);
  return config;
}

SamplerFactory RealSamplers(const Config& config) {
  SamplerOptions options;
  options.kernel = config.kernel == "plain" ? Kernel::kPlain : Kernel::kFused;
  options.device = config.device;
  return [options](const Checkpoint& checkpoint, int step_factor) {
    SamplerOptions of_call = options;
    of_call.step_factor = step_factor;
    return MakeSampler(checkpoint.manifest.spec(), checkpoint.weights, of_call);
  };
}

RuntimeInfo Runtime(const Config& config) {
  RuntimeInfo runtime = {.torch = TorchVersion(), .cuda = CudaVersion()};
  if (config.device == "cpu") return runtime;
  runtime.device_memory = [device = config.device] {
    std::map<std::string, double> kinds;
    if (const std::optional<DeviceMemory> memory = MemoryOf(device)) {
      kinds = {{"allocated", static_cast<double>(memory->allocated)},
               {"reserved", static_cast<double>(memory->reserved)},
               {"free", static_cast<double>(memory->free)},
               {"total", static_cast<double>(memory->total)}};
    }
    return kinds;
  };
  return runtime;
}

// A supervisor need not try again after the first, with which Abseil ends as
// well when it cannot read a flag.
constexpr int kExitSettings = 1;
constexpr int kExitFailed = 2;

int Fail(const absl::Status& status) {
  std::cerr << "latticed: " << status.message() << std::endl;
  return absl::IsInvalidArgument(status) ? kExitSettings : kExitFailed;
}

// SIGTERM and SIGINT: the first one while starting exits, there being nothing
// to end in order; the first one while serving wakes main, which drains; any
// further one exits at once. A handler, and not sigwait alone, because OpenBLAS
// starts threads before main that no mask of ours reaches.
enum class Phase { kStarting, kServing, kDraining };
std::atomic<Phase> phase{Phase::kStarting};
static_assert(std::atomic<Phase>::is_always_lock_free);
int wake_up[2];  // a pipe

void OnEndingSignal(int number) {
  Phase before = Phase::kServing;
  if (phase.compare_exchange_strong(before, Phase::kDraining)) {
    const char byte = static_cast<char>(number);
    if (write(wake_up[1], &byte, 1) == 1) return;
  }
  _exit(before == Phase::kStarting ? EXIT_SUCCESS : 128 + number);
}

absl::Status HandleSignals() {
  if (pipe2(wake_up, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(
        "no file descriptors are left; raise ulimit -n");
  }
  struct sigaction action = {};
  action.sa_handler = OnEndingSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  return absl::OkStatus();
}

// Returns the signal. In poll, because the thread sanitizer holds a signal back
// from a thread that waits in read.
int WaitForSignal() {
  char byte = 0;
  pollfd end = {.fd = wake_up[0], .events = POLLIN, .revents = 0};
  while (poll(&end, 1, -1) != 1 || read(wake_up[0], &byte, 1) != 1) {
  }
  return byte;
}

int Serve(const Config& config) {
  const absl::Status handled = HandleSignals();
  if (!handled.ok()) return Fail(handled);
  const absl::Status device = CheckDevice(config.device);
  if (!device.ok()) return Fail(device);
  SetComputeThreads(config.threads);
  // Both are the signal by other means; after a lost device the process ends
  // soon and with an error, so that a supervisor starts it again.
  static std::atomic<int> exit_code{EXIT_SUCCESS};
  const auto on_end = [](EndReason reason) {
    if (reason == EndReason::kDeviceLost) {
      exit_code = kExitFailed;
      std::thread([] {
        std::this_thread::sleep_for(std::chrono::seconds(9));
        _exit(kExitFailed);
      }).detach();
    }
    kill(getpid(), SIGTERM);
  };
  auto server = Server::Start(config, RealSamplers(config), MakeCouplings,
                              on_end, Runtime(config));
  if (!server.ok()) return Fail(server.status());
  const auto port = [](const std::string& listen, int number) {
    const auto address = ParseAddress(listen);
    return absl::StrCat(address->host, ":", number);
  };
  phase = Phase::kServing;
  std::cout << "latticed ready grpc="
            << port(config.listen, (*server)->grpc_port())
            << " http=" << port(config.http_listen, (*server)->http_port())
            << (config.admin_listen.empty()
                    ? ""
                    : " admin=" +
                          port(config.admin_listen, (*server)->admin_port()))
            << " models=" << (*server)->models() << std::endl;

  const int number = WaitForSignal();
  Log(LogLevel::kInfo, absl::StrCat("signal ", number, ": draining"));
  // A drain takes at most 24 s; should it hang, the promise is 25 s.
  std::thread([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(24500));
    Log(LogLevel::kError, "draining hangs; leaving");
    _exit(kExitFailed);
  }).detach();
  (*server)->Drain();
  Log(LogLevel::kInfo, "drained");
  // Without destructors: a repository that hangs must not hang the exit, and
  // everything worth keeping has been sent.
  std::fflush(nullptr);
  _exit(exit_code);
}

}  // namespace
}  // namespace latticed

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "serves trained flows over gRPC.\n\n"
      "  latticed --repository models\n\n"
      "SIGTERM or SIGINT drains and exits 0; a second one exits at once.");
  absl::FlagsUsageConfig usage;
  usage.version_string = [] {
    return absl::StrCat("latticed ", latticed::kBuildId, "\n");
  };
  usage.contains_help_flags = [](absl::string_view file) {
    return file.find("server/main.cc") != absl::string_view::npos;
  };
  absl::SetFlagsUsageConfig(usage);
  const auto rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    return latticed::Fail(absl::InvalidArgumentError(
        absl::StrCat("unexpected argument \"", rest[1],
                     "\"; all settings are flags, see --help")));
  }
  const latticed::Config config = latticed::ConfigFromFlags();
  const absl::Status valid = latticed::Validate(config);
  if (!valid.ok()) return latticed::Fail(valid);
  return latticed::Serve(config);
}
