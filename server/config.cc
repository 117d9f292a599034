#include "server/config.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/http/address.h"

namespace latticed {
namespace {

template <typename T>
absl::Status InRange(const char* flag, T value, T least, T most) {
  // Written so that NaN is out of range.
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is ", value, "; allowed is ", least, " to ",
                   most, "; choose a value in that range"));
}

absl::Status CheckListen(const char* flag, const std::string& text,
                         bool allow_remote) {
  const auto address = ParseAddress(text);
  if (!address.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, ": ", address.status().message()));
  }
  if (!allow_remote && !IsLoopback(*address)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--", flag, " is ", text,
        ", which other machines can reach: this "
        "build has neither TLS nor authentication yet. Listen on 127.0.0.1 "
        "and tunnel, or add --insecure_allow_remote if everyone on the "
        "network may draw"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const Config& c) {
  if (c.repository.empty()) {
    return absl::InvalidArgumentError(
        "--repository is not set; give the directory that latticed-train "
        "publishes into, for example --repository models");
  }
  if (c.kernel != "fused" && c.kernel != "plain") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--kernel is \"", c.kernel, "\"; allowed are fused and plain"));
  }
  if (c.device != "cpu" && c.device != "cuda" &&
      !absl::StartsWith(c.device, "cuda:")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--device is \"", c.device, "\"; allowed are cpu, cuda and cuda:n"));
  }
  const absl::Status checks[] = {
      CheckListen("listen", c.listen, c.insecure_allow_remote),
      CheckListen("http_listen", c.http_listen, c.insecure_allow_remote),
      InRange("poll_seconds", c.poll_seconds, 0.05, 3600.0),
      InRange("threads", c.threads, 0, 1024),
      InRange("reply_threads", c.reply_threads, 1, 64),
      InRange("calls_max", c.calls_max, 1, 100000),
      InRange("calls_per_peer_max", c.calls_per_peer_max, 1, c.calls_max),
      InRange("buffer_bytes_max", c.buffer_bytes_max, int64_t{4} << 20,
              int64_t{1} << 40),
      InRange("blocks_ahead", c.blocks_ahead, 1, 16),
      InRange("models_max", c.models_max, 1, 1024),
      InRange("smoke_draws", c.smoke_draws, int64_t{0}, int64_t{65536}),
      c.gate_draws == 0 ? absl::OkStatus()
                        : InRange("gate_draws", c.gate_draws, int64_t{8192},
                                  int64_t{1} << 20),
      InRange("gate_seconds", c.gate_seconds, 1.0, 3600.0),
      InRange("stall_seconds", c.stall_seconds, 0.1, 3600.0),
      InRange("lame_duck_seconds", c.lame_duck_seconds, 0.0, 20.0),
      // Together they leave room within the 25 s that an exit may take.
      InRange("drain_seconds", c.drain_seconds, 0.0,
              22.0 - c.lame_duck_seconds),
  };
  for (const absl::Status& check : checks) {
    if (!check.ok()) return check;
  }
  return absl::OkStatus();
}

}  // namespace latticed
