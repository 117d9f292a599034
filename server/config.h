// Everything an operator can set. Flags are read in main.cc only; below it a
// plain struct that Validate has accepted is an argument.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace latticed {

struct Config {
  std::string repository;                      // REQUIRED
  std::string listen = "127.0.0.1:7410";       // gRPC; port 0: any free one
  std::string http_listen = "127.0.0.1:7412";  // metrics, liveness, status page
  // AdminService, reflection, channelz. Empty: none.
  std::string admin_listen = "127.0.0.1:7411";
  // The server's own state. Empty: none is kept, and chain tokens of an
  // earlier run are refused unless a key file is given.
  std::string state_directory;
  std::string
      chain_token_key_file;  // default <state_directory>/chain-token.key
  bool insecure_allow_remote = false;

  // Of both gRPC listeners, PEM. Certificate and key: TLS; the CA as well:
  // clients must show a certificate that it has signed.
  std::string tls_certificate_file;
  std::string tls_key_file;
  std::string tls_client_ca_file;
  std::string token_file;  // of principals; see auth.h
  // Between looks at the files above, 0.05..60.
  double credentials_seconds = 10;

  double poll_seconds = 2;       // of the repository, 0.05..3600
  int threads = 0;               // for drawing, 0: one a core, ..1024
  int reply_threads = 2;         // for encoding replies, 1..64
  std::string kernel = "fused";  // or "plain"
  std::string device = "cpu";    // or "cuda[:n]"

  // Limits; over one of them a call ends with RESOURCE_EXHAUSTED.
  int calls_max = 1024;          // drawing at one time, 1..100000
  int calls_per_peer_max = 512;  // 1..calls_max
  // Of one principal, 0: no limit.
  double draws_per_second_per_principal = 0;
  int64_t buffer_bytes_max = int64_t{512} << 20;  // drawn, not yet sent
  int blocks_ahead = 2;        // drawn ahead of a client, 1..16
  int models_max = 64;         // 1..1024
  int64_t smoke_draws = 1024;  // before a version goes live, 0..65536

  // The gate in front of LIVE; 0 draws: no gate, 8192..1048576 otherwise.
  int64_t gate_draws = 65536;
  double gate_seconds = 60;        // 1..3600
  bool automatic_rollback = true;  // when production draws get worse

  // Other replicas to compare draws with, HOST:PORT separated by commas; empty:
  // none.
  std::string audit_peers;
  double audit_seconds = 60;     // between comparisons, 0.05..86400
  std::string audit_ca_file;     // TLS towards them: who signs certificates
  std::string audit_token_file;  // to show them

  double stall_seconds = 60;     // a write that takes longer ends its stream
  double lame_duck_seconds = 0;  // between NOT_SERVING and refusing, 0..20
  double drain_seconds = 20;     // for calls to end by themselves, 0..24
};

// HOST:PORT of every peer of --audit_peers: names and numbers.
// INVALID_ARGUMENT.
absl::StatusOr<std::vector<std::string>> AuditPeers(const Config& config);

// INVALID_ARGUMENT names the flag, what it is and what is allowed.
absl::Status Validate(const Config& config);

// Every setting by its flag. Of secrets there are only the files' names.
std::map<std::string, std::string> Settings(const Config& config);

}  // namespace latticed
