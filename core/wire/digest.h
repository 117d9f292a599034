// SHA-256 and HMAC-SHA-256 (OpenSSL), hex, random bytes. Thread-safe.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace latticed {

std::string Sha256(absl::string_view bytes);     // 32 bytes
std::string Sha256Hex(absl::string_view bytes);  // 64 hex digits
std::string HmacSha256(absl::string_view key, absl::string_view bytes);
// Takes time that depends on the sizes only.
bool ConstantTimeEqual(absl::string_view a, absl::string_view b);
// From the operating system; aborts if there are none.
std::string RandomBytes(int count);

}  // namespace latticed
