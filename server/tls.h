// TLS of the listeners: certificates that are checked before they are used and
// replaced without a restart.
//
// gRPC asks for the certificate at every handshake, so a new one is served from
// the next connection on and open ones stay. Its own file watcher is not used:
// it hands over what it finds, and a key that does not belong to its
// certificate would end TLS. TLS 1.2 is the least that is spoken.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/security/server_credentials.h"
#include "server/auth.h"
#include "server/metrics.h"
#include "server/mutex.h"

namespace latticed {

struct TlsFiles {
  std::string certificate;  // PEM, the server's own first, then its chain
  std::string key;          // PEM, without a passphrase
  std::string client_ca;    // PEM; set: clients must show a certificate
};

struct TlsMaterial {
  std::string certificate;
  std::string key;
  std::string client_ca;
  absl::Time not_after;  // of the server's own certificate

  bool operator==(const TlsMaterial&) const = default;
};

// FAILED_PRECONDITION names the flag: a file that cannot be read or parsed, a
// key that everyone may read or that belongs to another certificate, a
// certificate that is not valid now.
absl::StatusOr<TlsMaterial> ReadTlsMaterial(const TlsFiles& files,
                                            absl::Time now);

// What is served now. Thread-safe.
class TlsCertificates {
 public:
  static absl::StatusOr<std::shared_ptr<TlsCertificates>> Load(
      TlsFiles files, std::shared_ptr<Metrics> metrics);

  // Reads the files again. What is not valid is reported and changes nothing.
  // For one thread.
  void Refresh();

  bool client_certificates() const { return !files_.client_ca.empty(); }
  // A new pointer means a new certificate.
  std::shared_ptr<const TlsMaterial> current() const;

 private:
  TlsCertificates(TlsFiles files, std::shared_ptr<Metrics> metrics);
  void Serve(TlsMaterial material);

  const TlsFiles files_;
  const std::shared_ptr<Metrics> metrics_;
  std::string last_error_;  // Refresh only

  mutable Mutex mutex_;
  std::shared_ptr<const TlsMaterial> current_ ABSL_GUARDED_BY(mutex_);
};

// For one listener. `certificates` null: plaintext. Where callers have to show
// who they are, services of gRPC itself ask for an admin too, but for health,
// which is open; ours check in their handlers, where an error can have details.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    std::shared_ptr<const TlsCertificates> certificates,
    std::shared_ptr<const Authorizer> authorizer);

}  // namespace latticed
