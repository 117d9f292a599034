// The head of an HTTP request, as far as a page for probes and metrics needs
// it. Pure.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace latticed {

inline constexpr size_t kHttpHeadBytesMax = size_t{8} << 10;

struct HttpRequest {
  int code = 200;     // or how to answer what cannot be: 400, 405
  bool head = false;  // HEAD: the answer has no body
  std::string path;   // without the query
};

// Whether all of the head has arrived: everything up to a blank line.
bool HttpHeadComplete(absl::string_view bytes);
HttpRequest ParseHttpHead(absl::string_view head);

}  // namespace latticed
