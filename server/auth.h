// Who calls, and what they may do.
//
// A token file names principals, one a line:
//
//   # name            role      SHA-256 of the token, hex
//   alice             sampler   9f86d081...  expires=2030-01-01T00:00:00Z
//   ops               admin     60303ae2...
//   cn:node7.example  observer
//
// A call shows `authorization: Bearer TOKEN`, or comes over a connection whose
// client certificate has the name after "cn:" as its common name or as one of
// its alternative names. Several lines may share a name, so that a token can be
// replaced without an outage. The file holds no token, only digests.
//
// Nothing here logs or returns a token or a digest.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/grpcpp.h"
#include "server/metrics.h"
#include "server/mutex.h"

namespace latticed {

// Each may do what those before it may.
enum class Role { kObserver, kSampler, kAdmin };
absl::string_view RoleName(Role role);

struct Principal {
  std::string name;  // "alice" or "cn:node7.example"
  Role role = Role::kObserver;
  std::string sha256;  // 32 bytes; empty: a certificate's name
  absl::Time expires = absl::InfiniteFuture();
};

inline constexpr size_t kTokenFileLinesMax = 1024;
inline constexpr size_t kTokenFileBytesMax = size_t{256} << 10;

// INVALID_ARGUMENT names the line and what is wrong with it, never its digest.
absl::StatusOr<std::vector<Principal>> ParsePrincipals(absl::string_view text);

// What a call shows of itself.
struct Credentials {
  std::vector<std::string> authorization;  // values of the header
  std::vector<std::string> names;          // of a verified certificate
};

// Thread-safe.
class Authorizer {
 public:
  // Failed attempts of one peer in a row that are answered in full, and how
  // many more a second. Beyond it they are turned away and not logged. Right
  // credentials always pass: whoever shares an address with an attacker, such
  // as everyone behind a proxy, is not locked out.
  static constexpr double kFailuresBurst = 20;
  static constexpr double kFailuresPerSecond = 1;
  static constexpr size_t kPeersMax = 4096;

  // Without a token file: with `certificates` (clients show one that the CA
  // has signed) everyone is a sampler, else everyone is an admin.
  // FAILED_PRECONDITION for a token file that cannot be read, that everyone
  // may read, or that does not parse.
  static absl::StatusOr<std::shared_ptr<Authorizer>> Create(
      const std::string& token_file, bool certificates,
      std::shared_ptr<Metrics> metrics);

  // OK and the principal (the peer's address when anyone may call), or
  //   UNAUTHENTICATED    UNAUTHENTICATED, TOKEN_EXPIRED
  //   PERMISSION_DENIED  ROLE_REQUIRED
  //   RESOURCE_EXHAUSTED AUTH_FAILURES
  grpc::Status Check(const grpc::CallbackServerContext& context, Role needed,
                     std::string* principal) const;
  grpc::Status Check(const Credentials& credentials, const std::string& peer,
                     Role needed, absl::Time now, std::string* principal) const;

  // Reads the token file again. One that is not valid is reported and changes
  // nothing. For one thread.
  void Refresh();

  // Whether callers have to show anything.
  bool required() const { return required_; }

 private:
  using Principals = std::vector<Principal>;
  struct Failures {
    double left = kFailuresBurst;
    absl::Time updated;
  };

  Authorizer(std::string token_file, bool certificates,
             std::shared_ptr<Metrics> metrics);
  std::shared_ptr<const Principals> principals() const;
  grpc::Status Fail(const char* reason, const std::string& peer, absl::Time now,
                    grpc::Status status) const;

  const std::string token_file_;
  const bool certificates_;
  const bool required_;
  const std::shared_ptr<Metrics> metrics_;

  std::string text_;        // of the file; Refresh only
  std::string last_error_;  // Refresh only

  mutable Mutex mutex_;
  std::shared_ptr<const Principals> principals_ ABSL_GUARDED_BY(mutex_);
  mutable std::map<std::string, Failures> failures_ ABSL_GUARDED_BY(mutex_);
};

// The contents of a file that holds secrets: a regular one of at most
// `bytes_max`, not readable by everyone. FAILED_PRECONDITION names `flag`.
// With `secret` false only size and kind are checked.
absl::StatusOr<std::string> ReadCredentialFile(absl::string_view flag,
                                               const std::string& path,
                                               size_t bytes_max, bool secret);

}  // namespace latticed
