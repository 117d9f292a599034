#include "core/http/http_request.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace latticed {

bool HttpHeadComplete(absl::string_view bytes) {
  return absl::StrContains(bytes, "\r\n\r\n");
}

HttpRequest ParseHttpHead(absl::string_view head) {
  HttpRequest request;
  const absl::string_view line = head.substr(0, head.find("\r\n"));
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::MaxSplits(' ', 3));
  if (words.size() != 3 || !absl::StartsWith(words[2], "HTTP/")) {
    request.code = 400;
    return request;
  }
  request.head = words[0] == "HEAD";
  if (!request.head && words[0] != "GET") {
    request.code = 405;
    return request;
  }
  request.path = std::string(words[1].substr(0, words[1].find('?')));
  return request;
}

}  // namespace latticed
