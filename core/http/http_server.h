// Plain HTTP for metrics, probes and a status page: GET and HEAD only, one
// request a connection. Of our own because the packaged civetweb (and
// prometheus-cpp's exposer, which uses it) starts threads with 100 KiB of
// stack, and LibTorch with OpenBLAS needs more than that for thread-local data
// alone: no thread starts.
//
// One thread serves all connections, so that clients that send their request
// byte by byte, or read none of the answer, hold up nobody but themselves.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "core/http/address.h"

namespace latticed {

struct HttpReply {
  int code = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
  // Content-Security-Policy; "": none.
  std::string policy = {};
  // Until the page may be made again. Requests that come faster wait for that
  // and share it: what is answered is never older than the request.
  std::chrono::milliseconds period{20};
};
// By path. Called on the server's thread.
using HttpPages = std::map<std::string, std::function<HttpReply()>>;

class HttpServer {
 public:
  // Of one client from its first byte to its last.
  static constexpr std::chrono::milliseconds kConnectionTime{5000};
  // Open at a time. One more costs the one that has been sending its request
  // for longest its place.
  static constexpr size_t kConnectionsMax = 256;

  // UNAVAILABLE, naming the flag --http_listen, if the address is taken or not
  // ours.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const Address& address, HttpPages pages);
  ~HttpServer();

  int port() const { return port_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Connection;

  HttpServer(HttpPages pages, int listener, int port);
  void Run();
  void Accept();
  // False: the connection is over.
  bool Continue(Connection* connection, int16_t events);
  // Answers those whose requests are complete; when the next page may be made.
  Clock::time_point AnswerRequests();

  const HttpPages pages_;
  const int listener_;
  const int port_;
  std::atomic<bool> stopped_{false};

  // The thread's own.
  std::list<Connection> connections_;
  std::map<std::string, Clock::time_point> again_;  // pages, not before
  Clock::time_point accept_again_;                  // descriptors had run out

  std::thread thread_;
};

}  // namespace latticed
