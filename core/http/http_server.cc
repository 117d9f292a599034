#include "core/http/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace latticed {
namespace {

using Clock = std::chrono::steady_clock;

// A client has this long for all of it; four at a time can hold the page up.
constexpr auto kConnectionTime = std::chrono::seconds(5);
constexpr int kThreads = 4;
constexpr size_t kRequestBytesMax = 8 << 10;

// False once the time is up or the connection broken.
bool Wait(int descriptor, int16_t events, Clock::time_point due) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(due - Clock::now());
  pollfd entry = {descriptor, events, 0};
  return left.count() > 0 &&
         poll(&entry, 1, static_cast<int>(left.count())) > 0 &&
         (entry.revents & events) != 0;
}

// Up to the blank line; whatever follows is no business of ours.
bool ReadHead(int connection, Clock::time_point due, std::string* head) {
  char buffer[1024];
  while (head->find("\r\n\r\n") == std::string::npos) {
    if (head->size() > kRequestBytesMax || !Wait(connection, POLLIN, due)) {
      return false;
    }
    const ssize_t size = recv(connection, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (size <= 0) return false;
    head->append(buffer, static_cast<size_t>(size));
  }
  return true;
}

void WriteAll(int connection, Clock::time_point due, absl::string_view text) {
  while (!text.empty() && Wait(connection, POLLOUT, due)) {
    const ssize_t size =
        send(connection, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (size <= 0) return;
    text.remove_prefix(static_cast<size_t>(size));
  }
}

const char* Reason(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

// A listening socket and its port, or -1.
int Listen(const Address& address, int* port) {
  sockaddr_storage storage = {};
  socklen_t size = 0;
  if (address.host.front() == '[') {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(address.port));
    inet_pton(AF_INET6, address.host.substr(1, address.host.size() - 2).c_str(),
              &v6->sin6_addr);
    size = sizeof *v6;
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(address.port));
    inet_pton(AF_INET, address.host.c_str(), &v4->sin_addr);
    size = sizeof *v4;
  }
  const int listener =
      socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return -1;
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  auto* name = reinterpret_cast<sockaddr*>(&storage);
  if (bind(listener, name, size) != 0 || listen(listener, 64) != 0 ||
      getsockname(listener, name, &size) != 0) {
    const int error = errno;
    close(listener);
    errno = error;
    return -1;
  }
  *port = ntohs(storage.ss_family == AF_INET
                    ? reinterpret_cast<sockaddr_in*>(&storage)->sin_port
                    : reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port);
  return listener;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const Address& address, HttpPages pages) {
  int port = 0;
  const int listener = Listen(address, &port);
  if (listener < 0) {
    return absl::UnavailableError(absl::StrCat(
        "--http_listen: cannot listen on ", address.Name(), ": ",
        std::strerror(errno),
        "; another program may have the port (perhaps a server that is still "
        "running): choose another one, or port 0 for any free port"));
  }
  return std::unique_ptr<HttpServer>(
      new HttpServer(std::move(pages), listener, port));
}

HttpServer::HttpServer(HttpPages pages, int listener, int port)
    : pages_(std::move(pages)), listener_(listener), port_(port) {
  for (int i = 0; i < kThreads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

HttpServer::~HttpServer() {
  stopped_ = true;
  for (std::thread& thread : threads_) thread.join();
  close(listener_);
}

void HttpServer::Run() {
  while (!stopped_) {
    if (!Wait(listener_, POLLIN,
              Clock::now() + std::chrono::milliseconds(200))) {
      continue;
    }
    const int connection =
        accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection < 0) {
      // Another thread was faster, or descriptors have run out: no busy loop.
      if (errno != EAGAIN) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
      continue;
    }
    Answer(connection);
    close(connection);
  }
}

void HttpServer::Answer(int connection) const {
  const auto due = Clock::now() + kConnectionTime;
  std::string head;
  if (!ReadHead(connection, due, &head)) return;
  const std::string request = head.substr(0, head.find("\r\n"));
  const HttpReply reply = Page(request);
  std::string text = absl::StrCat(
      "HTTP/1.1 ", reply.code, " ", Reason(reply.code),
      "\r\nContent-Type: ", reply.type,
      "\r\nContent-Length: ", reply.body.size(),
      reply.code == 405 ? "\r\nAllow: GET, HEAD" : "",
      "\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n");
  if (request.rfind("HEAD ", 0) != 0) text += reply.body;
  WriteAll(connection, due, text);
  // Closing with unread bytes would reset what was just sent.
  shutdown(connection, SHUT_WR);
  char rest[256];
  while (Wait(connection, POLLIN, due) &&
         recv(connection, rest, sizeof rest, MSG_DONTWAIT) > 0) {
  }
}

HttpReply HttpServer::Page(const std::string& request) const {
  const std::vector<std::string> words = absl::StrSplit(request, ' ');
  if (words.size() != 3 || words[2].rfind("HTTP/", 0) != 0) {
    return {.code = 400, .body = "this is no HTTP request\n"};
  }
  if (words[0] != "GET" && words[0] != "HEAD") {
    return {.code = 405, .body = "only GET and HEAD are allowed here\n"};
  }
  const auto page = pages_.find(words[1].substr(0, words[1].find('?')));
  if (page == pages_.end()) {
    std::string paths;
    for (const auto& [path, _] : pages_) absl::StrAppend(&paths, " ", path);
    return {.code = 404, .body = absl::StrCat("there is only:", paths, "\n")};
  }
  return page->second();
}

}  // namespace latticed
