// How a client shows who it is, and whom it believes to talk to.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/security/credentials.h"

namespace latticed {

struct TlsOptions {
  std::string ca_file;           // PEM; set: TLS, and the server's must be one
                                 // that these authorities have signed
  std::string certificate_file;  // PEM, of the client, with key_file
  std::string key_file;          // PEM, not readable by everyone
  std::string server_name;       // in its certificate; default: the host's
};

// Files are read once. INVALID_ARGUMENT names the option as a flag.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ReadTlsOptions(
    const TlsOptions& options);

// The first line of a file that not everyone may read: a token of at most 4096
// printable characters, without blanks.
absl::StatusOr<std::string> ReadBearerToken(const std::string& path);

// Whether what is sent to `target` stays on this machine.
bool IsLocalTarget(const std::string& target);

}  // namespace latticed
