// Plain HTTP for machines and people on the same host:
//
//   /metrics   Prometheus text
//   /healthz   200 while the process works
//   /readyz    200 while it serves draws, 503 otherwise
//   /          a status page
//
// GET and HEAD only. Handlers run on threads of its own.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/config.h"

struct mg_context;
struct mg_connection;

namespace latticed {

struct HttpReply {
  int code = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
};
using HttpPages = std::map<std::string, std::function<HttpReply()>>;

class HttpServer {
 public:
  // UNAVAILABLE if the address is taken or not ours.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const Address& address, HttpPages pages);
  ~HttpServer();

  int port() const { return port_; }

 private:
  explicit HttpServer(HttpPages pages) : pages_(std::move(pages)) {}
  static int Handle(mg_connection* connection);

  const HttpPages pages_;
  mg_context* context_ = nullptr;
  int port_ = 0;
};

}  // namespace latticed
