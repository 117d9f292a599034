#include "server/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/wire/digest.h"
#include "server/errors.h"
#include "server/log.h"
#include "server/requests.h"

namespace latticed {
namespace {

constexpr size_t kTokenBytesMax = 4096;

absl::Status LineError(size_t line, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("line ", line, ": ", what,
                   "; a line is: name role sha256-of-token "
                   "[expires=2030-01-01T00:00:00Z], or cn:NAME role"));
}

bool ValidName(absl::string_view name, size_t size_max) {
  return !name.empty() && name.size() <= size_max &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || absl::StrContains("._@*-", c);
         });
}

std::optional<Role> ParseRole(absl::string_view text) {
  for (const Role role : {Role::kObserver, Role::kSampler, Role::kAdmin}) {
    if (text == RoleName(role)) return role;
  }
  return std::nullopt;
}

absl::StatusOr<Principal> ParseLine(size_t number, absl::string_view line) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  Principal principal;
  absl::string_view name = words[0];
  const bool certificate = absl::ConsumePrefix(&name, "cn:");
  if (!ValidName(name, certificate ? 253 : 64)) {
    return LineError(number,
                     "the name must be 1 to 64 of a-z A-Z 0-9 . _ @ * -");
  }
  principal.name = std::string(words[0]);
  const size_t fixed = certificate ? 2 : 3;
  if (words.size() < fixed || words.size() > fixed + 1) {
    return LineError(number, absl::StrCat("has ", words.size(), " words"));
  }
  const std::optional<Role> role = ParseRole(words[1]);
  if (!role) {
    return LineError(number, "the role must be observer, sampler or admin");
  }
  principal.role = *role;
  if (!certificate) {
    const bool hex =
        words[2].size() == 64 &&
        std::all_of(words[2].begin(), words[2].end(),
                    [](unsigned char c) { return absl::ascii_isxdigit(c); });
    if (!hex) {
      return LineError(number,
                       "the third word must be the 64 hex digits of a SHA-256");
    }
    principal.sha256 = absl::HexStringToBytes(words[2]);
  }
  if (words.size() > fixed) {
    absl::string_view expires = words[fixed];
    std::string unused;
    if (!absl::ConsumePrefix(&expires, "expires=") ||
        !absl::ParseTime(absl::RFC3339_full, expires, &principal.expires,
                         &unused)) {
      return LineError(number, "the last word must be expires=TIME");
    }
  }
  return principal;
}

}  // namespace

absl::string_view RoleName(Role role) {
  switch (role) {
    case Role::kObserver:
      return "observer";
    case Role::kSampler:
      return "sampler";
    case Role::kAdmin:
      return "admin";
  }
  return "";
}

absl::StatusOr<std::vector<Principal>> ParsePrincipals(absl::string_view text) {
  if (text.size() > kTokenFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has ", text.size(), " bytes, at most ", kTokenFileBytesMax));
  }
  std::vector<Principal> principals;
  size_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (++number > kTokenFileLinesMax + 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("has more than ", kTokenFileLinesMax, " lines"));
    }
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    auto principal = ParseLine(number, line);
    if (!principal.ok()) return principal.status();
    principals.push_back(*std::move(principal));
  }
  return principals;
}

absl::StatusOr<std::string> ReadCredentialFile(absl::string_view flag,
                                               const std::string& path,
                                               size_t bytes_max, bool secret) {
  const auto error = [&](absl::string_view what) {
    return absl::FailedPreconditionError(
        absl::StrCat("--", flag, " ", path, ": ", what));
  };
  // A pipe would block until somebody writes.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) {
    return error(absl::StrCat("cannot open it: ", std::strerror(errno),
                              "; name a file that the server may read"));
  }
  struct stat info;
  std::string text(bytes_max + 1, '\0');
  size_t size = 0;
  bool ok = fstat(file, &info) == 0;
  const bool regular = ok && S_ISREG(info.st_mode);
  while (ok && regular && size < text.size()) {
    const ssize_t got = read(file, text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    ok = got >= 0;
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  const int read_error = errno;
  close(file);
  if (!ok) {
    return error(absl::StrCat("cannot read it: ", std::strerror(read_error)));
  }
  if (!regular) return error("is no regular file");
  if (secret && (info.st_mode & 0007) != 0) {
    return error("everyone on this machine may read or change it; chmod 600");
  }
  if (size > bytes_max) {
    return error(absl::StrCat("is larger than ", bytes_max, " bytes"));
  }
  text.resize(size);
  return text;
}

Authorizer::Authorizer(std::string token_file, bool certificates,
                       std::shared_ptr<Metrics> metrics)
    : token_file_(std::move(token_file)),
      certificates_(certificates),
      required_(!token_file_.empty() || certificates),
      metrics_(std::move(metrics)) {}

absl::StatusOr<std::shared_ptr<Authorizer>> Authorizer::Create(
    const std::string& token_file, bool certificates,
    std::shared_ptr<Metrics> metrics) {
  std::shared_ptr<Authorizer> authorizer(
      new Authorizer(token_file, certificates, std::move(metrics)));
  if (token_file.empty()) return authorizer;
  auto text = ReadCredentialFile("token_file", token_file, kTokenFileBytesMax,
                                 /*secret=*/true);
  if (!text.ok()) return text.status();
  auto principals = ParsePrincipals(*text);
  if (!principals.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--token_file ", token_file, ": ", principals.status().message()));
  }
  authorizer->text_ = *std::move(text);
  MutexLock lock(authorizer->mutex_);
  authorizer->principals_ =
      std::make_shared<const Principals>(*std::move(principals));
  return authorizer;
}

void Authorizer::Refresh() {
  if (token_file_.empty()) return;
  auto text = ReadCredentialFile("token_file", token_file_, kTokenFileBytesMax,
                                 /*secret=*/true);
  absl::Status status = text.status();
  if (status.ok() && *text == text_) {
    last_error_.clear();
    return;
  }
  absl::StatusOr<Principals> principals;
  if (status.ok()) {
    principals = ParsePrincipals(*text);
    status = principals.status();
  }
  if (!status.ok()) {
    // Once, not at every look.
    if (last_error_ != status.message()) {
      last_error_ = std::string(status.message());
      metrics_->CredentialReload("tokens", false);
      Log(LogLevel::kError, absl::StrCat("token file ", token_file_,
                                         " is not valid: ", last_error_,
                                         "; the principals read before stay"));
    }
    return;
  }
  last_error_.clear();
  text_ = *std::move(text);
  metrics_->CredentialReload("tokens", true);
  Log(LogLevel::kInfo, absl::StrCat("token file ", token_file_, ": ",
                                    principals->size(), " principals"));
  MutexLock lock(mutex_);
  principals_ = std::make_shared<const Principals>(*std::move(principals));
}

std::shared_ptr<const Authorizer::Principals> Authorizer::principals() const {
  MutexLock lock(mutex_);
  return principals_;
}

grpc::Status Authorizer::Fail(const char* reason, const std::string& peer,
                              absl::Time now, grpc::Status status) const {
  metrics_->AuthFailed(reason);
  metrics_->Rejected("auth");
  double left = 0;
  {
    MutexLock lock(mutex_);
    if (failures_.size() >= kPeersMax && failures_.count(peer) == 0) {
      // Whoever has failed least recently is forgotten.
      failures_.erase(std::min_element(
          failures_.begin(), failures_.end(), [](const auto& a, const auto& b) {
            return a.second.updated < b.second.updated;
          }));
    }
    Failures& failures = failures_[peer];
    const double seconds = absl::ToDoubleSeconds(now - failures.updated);
    failures.left = std::clamp(failures.left + seconds * kFailuresPerSecond,
                               0.0, kFailuresBurst);
    failures.updated = now;
    left = failures.left;
    failures.left = std::max(0.0, left - 1);
  }
  if (left < 1) {
    metrics_->AuthFailed("rate_limited");
    return Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "AUTH_FAILURES",
                 "too many calls from this address were refused for their "
                 "credentials; correct them before calling again");
  }
  Log(LogLevel::kWarning,
      absl::StrCat("refused a call from ", peer, ": credentials ", reason));
  return status;
}

grpc::Status Authorizer::Check(const grpc::CallbackServerContext& context,
                               Role needed, std::string* principal) const {
  const std::string peer = PeerOf(context.peer());
  if (!required_) {
    *principal = peer;
    return grpc::Status::OK;
  }
  Credentials credentials;
  const auto range = context.client_metadata().equal_range("authorization");
  for (auto it = range.first; it != range.second; ++it) {
    credentials.authorization.emplace_back(it->second.data(),
                                           it->second.size());
  }
  if (certificates_) {
    const auto auth = context.auth_context();
    for (const char* property :
         {"x509_common_name", "x509_subject_alternative_name"}) {
      for (const grpc::string_ref& name : auth->FindPropertyValues(property)) {
        credentials.names.emplace_back(name.data(), name.size());
      }
    }
  }
  return Check(credentials, peer, needed, absl::Now(), principal);
}

grpc::Status Authorizer::Check(const Credentials& credentials,
                               const std::string& peer, Role needed,
                               absl::Time now, std::string* principal) const {
  *principal = peer;
  if (!required_) return grpc::Status::OK;
  const auto unauthenticated = [&](const char* reason, absl::string_view why) {
    return Fail(reason, peer, now,
                Error(grpc::StatusCode::UNAUTHENTICATED, "UNAUTHENTICATED",
                      std::string(why)));
  };
  const std::shared_ptr<const Principals> principals = this->principals();
  const Principal* found = nullptr;
  Principal signed_by_ca;
  if (!credentials.authorization.empty()) {
    // A scheme of HTTP is the same in any case (RFC 9110, 11.1).
    absl::string_view token = credentials.authorization[0];
    const bool bearer = token.size() > 7 &&
                        absl::EqualsIgnoreCase(token.substr(0, 7), "bearer ");
    if (credentials.authorization.size() > 1 || !bearer ||
        token.size() > kTokenBytesMax) {
      return unauthenticated("malformed",
                             "the authorization header must be there once and "
                             "read 'Bearer TOKEN'");
    }
    token.remove_prefix(7);
    const std::string digest = Sha256(token);
    // All of them, each in constant time: how long it takes says nothing about
    // which of them came near. Of several that match the last to expire counts.
    if (principals != nullptr) {
      for (const Principal& candidate : *principals) {
        if (ConstantTimeEqual(candidate.sha256, digest) &&
            (found == nullptr || candidate.expires > found->expires)) {
          found = &candidate;
        }
      }
    }
    if (found == nullptr) {
      return unauthenticated("unknown",
                             "the token is none that this server knows; ask "
                             "its operator for one");
    }
  } else if (!credentials.names.empty()) {
    if (principals == nullptr) {
      signed_by_ca.name = absl::StrCat("cn:", credentials.names[0]);
      signed_by_ca.role = Role::kSampler;
      found = &signed_by_ca;
    } else {
      // Of several names the one that may do most.
      for (const Principal& candidate : *principals) {
        if (!candidate.sha256.empty()) continue;
        for (const std::string& name : credentials.names) {
          if (candidate.name == absl::StrCat("cn:", name) &&
              candidate.expires > now &&
              (found == nullptr || candidate.role > found->role)) {
            found = &candidate;
          }
        }
      }
      if (found == nullptr) {
        return unauthenticated("unknown",
                               "no name of the client certificate is in the "
                               "server's --token_file");
      }
    }
  } else {
    return unauthenticated(
        "missing",
        token_file_.empty()
            ? "this server wants a client certificate with a name"
            : "this server wants 'authorization: Bearer TOKEN'; with "
              "latticectl, --auth_token_file");
  }
  if (found->expires <= now) {
    return Fail("expired", peer, now,
                Error(grpc::StatusCode::UNAUTHENTICATED, "TOKEN_EXPIRED",
                      absl::StrCat("the token of ", found->name,
                                   " has expired; ask the server's operator "
                                   "for a new one")));
  }
  if (found->role < needed) {
    return Fail("role", peer, now,
                Error(grpc::StatusCode::PERMISSION_DENIED, "ROLE_REQUIRED",
                      absl::StrCat(found->name, " is ", RoleName(found->role),
                                   " and this call is for ", RoleName(needed),
                                   "; ask the server's operator"))
                    .With("role", RoleName(found->role))
                    .With("role_required", RoleName(needed)));
  }
  *principal = found->name;
  return grpc::Status::OK;
}

}  // namespace latticed
