// Plain HTTP for metrics, probes and a status page: GET and HEAD only, one
// request a connection. Of our own because the packaged civetweb (and
// prometheus-cpp's exposer, which uses it) starts threads with 100 KiB of
// stack, and LibTorch with OpenBLAS needs more than that for thread-local data
// alone: no thread starts.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "core/http/address.h"

namespace latticed {

struct HttpReply {
  int code = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
};
// By path. Called on several threads at a time.
using HttpPages = std::map<std::string, std::function<HttpReply()>>;

class HttpServer {
 public:
  // UNAVAILABLE, naming the flag --http_listen, if the address is taken or not
  // ours.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const Address& address, HttpPages pages);
  ~HttpServer();

  int port() const { return port_; }

 private:
  HttpServer(HttpPages pages, int listener, int port);
  void Run();
  void Answer(int connection) const;
  HttpReply Page(const std::string& request) const;

  const HttpPages pages_;
  const int listener_;
  const int port_;
  std::atomic<bool> stopped_{false};
  std::vector<std::thread> threads_;
};

}  // namespace latticed
