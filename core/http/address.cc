#include "core/http/address.h"

#include <arpa/inet.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace latticed {

absl::StatusOr<Address> ParseAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  Address address;
  if (colon == std::string::npos ||
      !absl::SimpleAtoi(text.substr(colon + 1), &address.port) ||
      address.port < 0 || address.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text,
                     "\" is no address; write host:port with a "
                     "port of 0 to 65535, for example 127.0.0.1:7410"));
  }
  address.host = text.substr(0, colon);
  if (address.host == "localhost") address.host = "127.0.0.1";
  in6_addr ignored;
  const bool v4 = inet_pton(AF_INET, address.host.c_str(), &ignored) == 1;
  const bool v6 =
      address.host.size() > 2 && address.host.front() == '[' &&
      address.host.back() == ']' &&
      inet_pton(AF_INET6,
                address.host.substr(1, address.host.size() - 2).c_str(),
                &ignored) == 1;
  if (!v4 && !v6) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", address.host,
                     "\" is no numeric address; write 127.0.0.1, "
                     "localhost, [::1] or the address of an interface"));
  }
  return address;
}

bool IsLoopback(const Address& address) {
  return absl::StartsWith(address.host, "127.") || address.host == "[::1]";
}

}  // namespace latticed
