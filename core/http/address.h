// Where a program listens.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace latticed {

struct Address {
  std::string host;
  int port = 0;
  std::string Name() const { return host + ":" + std::to_string(port); }
};
// "host:port" with an IPv4 address, "localhost" or an IPv6 one in brackets.
absl::StatusOr<Address> ParseAddress(const std::string& text);
bool IsLoopback(const Address& address);

}  // namespace latticed
