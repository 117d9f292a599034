// Heads of HTTP requests, in one piece and cut anywhere.
#include <cstdint>
#include <cstdlib>

#include "absl/strings/match.h"
#include "core/http/http_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const latticed::HttpRequest request = latticed::ParseHttpHead(bytes);
  const absl::string_view line = bytes.substr(0, bytes.find("\r\n"));
  switch (request.code) {
    case 200:
      if (absl::StrContains(request.path, ' ') ||
          absl::StrContains(request.path, '?') ||
          absl::StrContains(request.path, "\r\n") ||
          request.head != absl::StartsWith(line, "HEAD ") ||
          (!request.head && !absl::StartsWith(line, "GET "))) {
        std::abort();
      }
      break;
    case 400:
    case 405:
      if (!request.path.empty()) std::abort();
      break;
    default:
      std::abort();
  }
  // More bytes never make a complete head incomplete.
  bool complete = false;
  for (size_t i = 0; i <= bytes.size() && i < 64; ++i) {
    const bool now = latticed::HttpHeadComplete(bytes.substr(0, i));
    if (complete && !now) std::abort();
    complete = now;
  }
  return 0;
}
