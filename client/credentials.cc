#include "client/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace latticed {
namespace {

constexpr size_t kTokenBytesMax = 4096;
constexpr size_t kPemBytesMax = size_t{1} << 20;

absl::StatusOr<std::string> ReadSmallFile(absl::string_view flag,
                                          const std::string& path,
                                          size_t bytes_max, bool secret) {
  const auto error = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, ": ", path, ": ", what));
  };
  // A pipe would block until somebody writes.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return error(std::strerror(errno));
  struct stat info;
  std::string text(bytes_max + 1, '\0');
  const bool regular = fstat(file, &info) == 0 && S_ISREG(info.st_mode);
  const ssize_t size = regular ? read(file, text.data(), text.size()) : -1;
  close(file);
  if (size < 0) return error("is no regular file that can be read");
  if (secret && (info.st_mode & 0007) != 0) {
    return error("everyone on this machine may read it; chmod 600");
  }
  if (static_cast<size_t>(size) > bytes_max) {
    return error(absl::StrCat("is larger than ", bytes_max, " bytes"));
  }
  text.resize(static_cast<size_t>(size));
  return text;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ReadTlsOptions(
    const TlsOptions& options) {
  grpc::SslCredentialsOptions ssl;
  if (options.ca_file.empty()) {
    return absl::InvalidArgumentError(
        "--tls_certificate_file, --tls_key_file and --tls_server_name need "
        "--tls_ca_file, the authorities that the server is believed by");
  }
  auto text =
      ReadSmallFile("tls_ca_file", options.ca_file, kPemBytesMax, false);
  if (!text.ok()) return text.status();
  if (!absl::StrContains(*text, "-----BEGIN ")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--tls_ca_file: ", options.ca_file, ": holds no certificate"));
  }
  ssl.pem_root_certs = *std::move(text);
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError(
        "--tls_certificate_file and --tls_key_file belong together: give both "
        "or neither");
  }
  if (!options.key_file.empty()) {
    text = ReadSmallFile("tls_certificate_file", options.certificate_file,
                         kPemBytesMax, false);
    if (!text.ok()) return text.status();
    ssl.pem_cert_chain = *std::move(text);
    text = ReadSmallFile("tls_key_file", options.key_file, kPemBytesMax, true);
    if (!text.ok()) return text.status();
    ssl.pem_private_key = *std::move(text);
  }
  return grpc::SslCredentials(ssl);
}

absl::StatusOr<std::string> ReadBearerToken(const std::string& path) {
  auto text = ReadSmallFile("auth_token_file", path, kTokenBytesMax, true);
  if (!text.ok()) return text.status();
  const absl::string_view token = absl::StripAsciiWhitespace(
      absl::string_view(*text).substr(0, text->find('\n')));
  const bool printable =
      !token.empty() &&
      std::all_of(token.begin(), token.end(),
                  [](unsigned char c) { return absl::ascii_isgraph(c); });
  if (!printable) {
    return absl::InvalidArgumentError(
        absl::StrCat("--auth_token_file: ", path,
                     ": its first line is no token of printable characters"));
  }
  return std::string(token);
}

bool IsLocalTarget(const std::string& target) {
  if (absl::StartsWith(target, "unix:")) return true;
  const std::string host = target.substr(0, target.rfind(':'));
  // Digits and dots only: 127.example.org is a name.
  return host == "localhost" || host == "[::1]" ||
         (absl::StartsWith(host, "127.") &&
          host.find_first_not_of("0123456789.") == std::string::npos);
}

}  // namespace latticed
