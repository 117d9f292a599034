#include "core/wire/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <sys/random.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/escaping.h"

namespace latticed {
namespace {

const unsigned char* Data(absl::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace

std::string Sha256(absl::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  if (SHA256(Data(bytes), bytes.size(),
             reinterpret_cast<unsigned char*>(digest.data())) == nullptr) {
    Die("OpenSSL offers no SHA-256; check its configuration and providers");
  }
  return digest;
}

std::string Sha256Hex(absl::string_view bytes) {
  return absl::BytesToHexString(Sha256(bytes));
}

std::string HmacSha256(absl::string_view key, absl::string_view bytes) {
  std::string mac(SHA256_DIGEST_LENGTH, '\0');
  unsigned int size = 0;
  // OpenSSL reads a null key as "the key of the last call".
  const char* key_data = key.data() == nullptr ? "" : key.data();
  if (HMAC(EVP_sha256(), key_data, static_cast<int>(key.size()), Data(bytes),
           bytes.size(), reinterpret_cast<unsigned char*>(mac.data()),
           &size) == nullptr) {
    Die("OpenSSL offers no HMAC-SHA-256; check its configuration");
  }
  return mac;
}

bool ConstantTimeEqual(absl::string_view a, absl::string_view b) {
  return a.size() == b.size() &&
         CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string RandomBytes(int count) {
  std::string bytes(count, '\0');
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t n =
        getrandom(bytes.data() + have, bytes.size() - have, /*flags=*/0);
    if (n > 0) {
      have += static_cast<size_t>(n);
    } else if (errno != EINTR) {
      Die("the operating system gives no random bytes (getrandom)");
    }
  }
  return bytes;
}

}  // namespace latticed
