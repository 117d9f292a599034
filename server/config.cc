#include "server/config.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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

enum class Listener { kGrpc, kHttp };

absl::Status CheckListen(const char* flag, const std::string& text,
                         Listener kind, const Config& c) {
  const auto address = ParseAddress(text);
  if (!address.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, ": ", address.status().message()));
  }
  if (c.insecure_allow_remote || IsLoopback(*address)) return absl::OkStatus();
  const std::string who = absl::StrCat("--", flag, " is ", text,
                                       ", which other machines can reach");
  if (kind == Listener::kHttp) {
    return absl::InvalidArgumentError(absl::StrCat(
        who,
        ": the page has neither TLS nor authentication. Listen on 127.0.0.1 "
        "behind a proxy or a tunnel, or add --insecure_allow_remote if "
        "everyone on the network may see metrics and status"));
  }
  const bool tls = !c.tls_certificate_file.empty();
  if (tls && (!c.token_file.empty() || !c.tls_client_ca_file.empty())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      who, ": that needs ",
      tls ? "" : "TLS (--tls_certificate_file and --tls_key_file) and ",
      "authentication (--token_file or --tls_client_ca_file). Add them, or "
      "listen on 127.0.0.1 and tunnel, or add --insecure_allow_remote if "
      "everyone on the network may draw and listen in"));
}

absl::Status CheckTls(const Config& c) {
  if (c.tls_certificate_file.empty() != c.tls_key_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--", c.tls_key_file.empty() ? "tls_key_file" : "tls_certificate_file",
        " is not set and its counterpart is; TLS needs a certificate and its "
        "key: give both files"));
  }
  if (!c.tls_client_ca_file.empty() && c.tls_certificate_file.empty()) {
    return absl::InvalidArgumentError(
        "--tls_client_ca_file is set without TLS; give --tls_certificate_file "
        "and --tls_key_file too");
  }
  return absl::OkStatus();
}

absl::Status CheckAudit(const Config& c) {
  const auto peers = AuditPeers(c);
  if (!peers.ok()) return peers.status();
  for (const std::string& peer : *peers) {
    const auto address = ParseAddress(peer);
    const bool here = address.ok() && IsLoopback(*address);
    if (!c.audit_token_file.empty() && c.audit_ca_file.empty() && !here) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--audit_token_file is set without --audit_ca_file, and ", peer,
          " is another machine: the token would travel unencrypted; give the "
          "authority of the peers' certificates"));
    }
  }
  return InRange("audit_seconds", c.audit_seconds, 0.05, 86400.0);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> AuditPeers(const Config& config) {
  std::vector<std::string> peers;
  if (config.audit_peers.empty()) return peers;
  for (const absl::string_view item : absl::StrSplit(config.audit_peers, ',')) {
    const absl::string_view peer = absl::StripAsciiWhitespace(item);
    const size_t colon = peer.rfind(':');
    int port = 0;
    if (colon == absl::string_view::npos || colon == 0 ||
        !absl::SimpleAtoi(peer.substr(colon + 1), &port) || port < 1 ||
        port > 65535) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--audit_peers: \"", peer,
          "\" is not HOST:PORT; name the gRPC addresses of other replicas, "
          "separated by commas"));
    }
    peers.emplace_back(peer);
  }
  if (peers.size() > 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("--audit_peers names ", peers.size(),
                     " peers; allowed are 64: name a part of them on each "
                     "replica"));
  }
  return peers;
}

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
      CheckTls(c),
      CheckAudit(c),
      CheckListen("listen", c.listen, Listener::kGrpc, c),
      CheckListen("http_listen", c.http_listen, Listener::kHttp, c),
      c.admin_listen.empty()
          ? absl::OkStatus()
          : CheckListen("admin_listen", c.admin_listen, Listener::kGrpc, c),
      InRange("credentials_seconds", c.credentials_seconds, 0.05, 60.0),
      InRange("draws_per_second_per_principal",
              c.draws_per_second_per_principal, 0.0, 1e12),
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

std::map<std::string, std::string> Settings(const Config& c) {
  const auto text = [](const auto& value) { return absl::StrCat(value); };
  return {
      {"repository", c.repository},
      {"listen", c.listen},
      {"http_listen", c.http_listen},
      {"admin_listen", c.admin_listen},
      {"state_directory", c.state_directory},
      {"chain_token_key_file", c.chain_token_key_file},
      {"insecure_allow_remote", c.insecure_allow_remote ? "true" : "false"},
      {"tls_certificate_file", c.tls_certificate_file},
      {"tls_key_file", c.tls_key_file},
      {"tls_client_ca_file", c.tls_client_ca_file},
      {"token_file", c.token_file},
      {"credentials_seconds", text(c.credentials_seconds)},
      {"poll_seconds", text(c.poll_seconds)},
      {"threads", text(c.threads)},
      {"reply_threads", text(c.reply_threads)},
      {"kernel", c.kernel},
      {"device", c.device},
      {"calls_max", text(c.calls_max)},
      {"calls_per_peer_max", text(c.calls_per_peer_max)},
      {"draws_per_second_per_principal",
       text(c.draws_per_second_per_principal)},
      {"buffer_bytes_max", text(c.buffer_bytes_max)},
      {"blocks_ahead", text(c.blocks_ahead)},
      {"models_max", text(c.models_max)},
      {"smoke_draws", text(c.smoke_draws)},
      {"gate_draws", text(c.gate_draws)},
      {"gate_seconds", text(c.gate_seconds)},
      {"automatic_rollback", c.automatic_rollback ? "true" : "false"},
      {"audit_peers", c.audit_peers},
      {"audit_seconds", text(c.audit_seconds)},
      {"audit_ca_file", c.audit_ca_file},
      {"audit_token_file", c.audit_token_file},
      {"stall_seconds", text(c.stall_seconds)},
      {"lame_duck_seconds", text(c.lame_duck_seconds)},
      {"drain_seconds", text(c.drain_seconds)},
  };
}

}  // namespace latticed
