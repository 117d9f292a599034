#include "server/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "server/errors.h"
#include "server/log.h"

namespace latticed {
namespace {

constexpr size_t kPemBytesMax = size_t{1} << 20;

using BioRef = std::unique_ptr<BIO, decltype(&BIO_free)>;
using X509Ref = std::unique_ptr<X509, decltype(&X509_free)>;
using KeyRef = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

BioRef Reader(const std::string& text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())),
          &BIO_free};
}

absl::Status FileError(absl::string_view flag, const std::string& path,
                       absl::string_view what) {
  return absl::FailedPreconditionError(
      absl::StrCat("--", flag, " ", path, ": ", what));
}

// Every certificate of a file, at least one.
absl::StatusOr<std::vector<X509Ref>> ParseCertificates(
    absl::string_view flag, const std::string& path, const std::string& text) {
  std::vector<X509Ref> certificates;
  const BioRef reader = Reader(text);
  while (X509* certificate =
             PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(certificate, &X509_free);
  }
  // "No start line" is the end of the file, anything else damage.
  const auto error = ERR_peek_last_error();
  ERR_clear_error();
  if (certificates.empty() || ERR_GET_REASON(error) != PEM_R_NO_START_LINE) {
    return FileError(flag, path,
                     "holds no certificate in PEM form, or a damaged one "
                     "(-----BEGIN CERTIFICATE----- ...)");
  }
  return certificates;
}

absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm parts = {};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

// Without this OpenSSL would ask for a passphrase on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

std::string Day(absl::Time time) {
  return absl::FormatTime(absl::RFC3339_sec, time, absl::UTCTimeZone());
}

// What one listener's gRPC credentials refer to; lives as long as they do.
struct ListenerState {
  std::shared_ptr<const TlsCertificates> certificates;
  std::shared_ptr<const Authorizer> authorizer;

  Mutex mutex;
  std::shared_ptr<const TlsMaterial> served ABSL_GUARDED_BY(mutex);
};

grpc_ssl_certificate_config_reload_status Fetch(
    void* user_data, grpc_ssl_server_certificate_config** config) {
  auto* state = static_cast<ListenerState*>(user_data);
  std::shared_ptr<const TlsMaterial> now = state->certificates->current();
  MutexLock lock(state->mutex);
  if (now == state->served) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {now->key.c_str(),
                                           now->certificate.c_str()};
  // gRPC insists on roots. Where no client is asked for a certificate they
  // mean nothing, and any will do.
  const std::string& roots =
      now->client_ca.empty() ? now->certificate : now->client_ca;
  *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
  state->served = std::move(now);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

std::string Text(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)),
          GRPC_SLICE_LENGTH(slice)};
}

// Before every call of this listener.
void CheckCall(void* raw, grpc_auth_context* context,
               const grpc_metadata* metadata, size_t count,
               grpc_process_auth_metadata_done_cb done, void* user_data) {
  const auto* state = static_cast<const ListenerState*>(raw);
  std::string path;
  Credentials credentials;
  for (size_t i = 0; i < count; ++i) {
    const std::string key = Text(metadata[i].key);
    if (key == ":path") path = Text(metadata[i].value);
    if (key == "authorization") {
      credentials.authorization.push_back(Text(metadata[i].value));
    }
  }
  grpc::Status status;
  // Health is for everyone: balancing clients, proxies and the kubelet ask it
  // and have no way to show a token. It says less than the HTTP page.
  if (state->authorizer->required() && !absl::StartsWith(path, "/latticed.") &&
      !absl::StartsWith(path, "/grpc.health.v1.")) {
    for (const char* property :
         {GRPC_X509_CN_PROPERTY_NAME, GRPC_X509_SAN_PROPERTY_NAME}) {
      auto it = grpc_auth_context_find_properties_by_name(context, property);
      while (const auto* found = grpc_auth_property_iterator_next(&it)) {
        credentials.names.emplace_back(found->value, found->value_length);
      }
    }
    std::string unused;
    status = state->authorizer->Check(credentials,
                                      "a caller of reflection or channelz",
                                      Role::kAdmin, absl::Now(), &unused);
  }
  done(user_data, nullptr, 0, nullptr, 0,
       static_cast<grpc_status_code>(status.error_code()),
       status.ok() ? nullptr : status.error_message().c_str());
}

// gRPC's C++ interface has no way to replace certificates that is both stable
// and careful; its C interface does, and this carries it.
class ListenerCredentials final : public grpc::ServerCredentials {
 public:
  explicit ListenerCredentials(std::unique_ptr<ListenerState> state) {
    ListenerState* const raw = state.release();
    if (raw->certificates == nullptr) {
      credentials_ = grpc_insecure_server_credentials_create();
    } else {
      credentials_ = grpc_ssl_server_credentials_create_with_options(
          grpc_ssl_server_credentials_create_options_using_config_fetcher(
              raw->certificates->client_certificates()
                  ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                  : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
              &Fetch, raw));
    }
    grpc_server_credentials_set_auth_metadata_processor(
        credentials_,
        {&CheckCall,
         [](void* gone) { delete static_cast<ListenerState*>(gone); }, raw});
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDeleteLeaks): deleted above
  }
  ~ListenerCredentials() override {
    grpc_server_credentials_release(credentials_);
  }
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* credentials_;
};

}  // namespace

absl::StatusOr<TlsMaterial> ReadTlsMaterial(const TlsFiles& files,
                                            absl::Time now) {
  TlsMaterial material;
  auto text = ReadCredentialFile("tls_certificate_file", files.certificate,
                                 kPemBytesMax, /*secret=*/false);
  if (!text.ok()) return text.status();
  material.certificate = *std::move(text);
  const auto chain = ParseCertificates("tls_certificate_file",
                                       files.certificate, material.certificate);
  if (!chain.ok()) return chain.status();

  text = ReadCredentialFile("tls_key_file", files.key, kPemBytesMax,
                            /*secret=*/true);
  if (!text.ok()) return text.status();
  material.key = *std::move(text);
  const KeyRef key(PEM_read_bio_PrivateKey(Reader(material.key).get(), nullptr,
                                           &NoPassphrase, nullptr),
                   &EVP_PKEY_free);
  ERR_clear_error();
  if (key == nullptr) {
    return FileError("tls_key_file", files.key,
                     "holds no private key in PEM form without a passphrase");
  }
  X509* const own = (*chain)[0].get();
  const bool match = X509_check_private_key(own, key.get()) == 1;
  ERR_clear_error();
  if (!match) {
    return FileError("tls_key_file", files.key,
                     absl::StrCat("is not the key of the first certificate in ",
                                  files.certificate));
  }
  material.not_after = TimeOf(X509_get0_notAfter(own));
  if (material.not_after <= now) {
    return FileError("tls_certificate_file", files.certificate,
                     absl::StrCat("expired at ", Day(material.not_after),
                                  "; have a new one issued"));
  }
  const absl::Time not_before = TimeOf(X509_get0_notBefore(own));
  if (not_before > now) {
    return FileError("tls_certificate_file", files.certificate,
                     absl::StrCat("is not valid before ", Day(not_before),
                                  "; look at the clock, or wait"));
  }
  if (!files.client_ca.empty()) {
    text = ReadCredentialFile("tls_client_ca_file", files.client_ca,
                              kPemBytesMax, /*secret=*/false);
    if (!text.ok()) return text.status();
    material.client_ca = *std::move(text);
    const auto authorities = ParseCertificates(
        "tls_client_ca_file", files.client_ca, material.client_ca);
    if (!authorities.ok()) return authorities.status();
  }
  return material;
}

TlsCertificates::TlsCertificates(TlsFiles files,
                                 std::shared_ptr<Metrics> metrics)
    : files_(std::move(files)), metrics_(std::move(metrics)) {}

absl::StatusOr<std::shared_ptr<TlsCertificates>> TlsCertificates::Load(
    TlsFiles files, std::shared_ptr<Metrics> metrics) {
  auto material = ReadTlsMaterial(files, absl::Now());
  if (!material.ok()) return material.status();
  std::shared_ptr<TlsCertificates> certificates(
      new TlsCertificates(std::move(files), std::move(metrics)));
  certificates->Serve(*std::move(material));
  return certificates;
}

void TlsCertificates::Serve(TlsMaterial material) {
  metrics_->CertificateExpires(
      absl::ToDoubleSeconds(material.not_after - absl::UnixEpoch()));
  MutexLock lock(mutex_);
  current_ = std::make_shared<const TlsMaterial>(std::move(material));
}

std::shared_ptr<const TlsMaterial> TlsCertificates::current() const {
  MutexLock lock(mutex_);
  return current_;
}

void TlsCertificates::Refresh() {
  auto material = ReadTlsMaterial(files_, absl::Now());
  if (!material.ok()) {
    // Once, not at every look. A pair that is being replaced file by file does
    // not match for a moment: it is taken at the next look.
    if (last_error_ != material.status().message()) {
      last_error_ = std::string(material.status().message());
      metrics_->CredentialReload("certificate", false);
      Log(LogLevel::kError,
          absl::StrCat("the certificate cannot be replaced: ", last_error_,
                       "; the one before is served"));
    }
    return;
  }
  last_error_.clear();
  if (*material == *current()) return;
  metrics_->CredentialReload("certificate", true);
  Log(LogLevel::kInfo,
      absl::StrCat("new certificate, valid until ", Day(material->not_after)));
  Serve(*std::move(material));
}

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    std::shared_ptr<const TlsCertificates> certificates,
    std::shared_ptr<const Authorizer> authorizer) {
  auto state = std::make_unique<ListenerState>();
  state->certificates = std::move(certificates);
  state->authorizer = std::move(authorizer);
  return std::make_shared<ListenerCredentials>(std::move(state));
}

}  // namespace latticed
