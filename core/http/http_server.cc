#include "core/http/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/http/http_request.h"

namespace latticed {
namespace {

using std::chrono::milliseconds;

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
  if (bind(listener, name, size) != 0 || listen(listener, 512) != 0 ||
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

struct HttpServer::Connection {
  enum State { kReading, kWaiting, kWriting, kLeaving };

  Connection(int descriptor, Clock::time_point now)
      : socket(descriptor), due(now + kConnectionTime) {}
  ~Connection() { close(socket); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int16_t Events() const {
    return state == kWriting   ? POLLOUT
           : state == kWaiting ? int16_t{0}
                               : POLLIN;
  }

  const int socket;
  const Clock::time_point due;
  State state = kReading;
  std::string in;
  HttpRequest request;
  std::string out;
  size_t sent = 0;
};

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
  thread_ = std::thread([this] { Run(); });
}

HttpServer::~HttpServer() {
  stopped_ = true;
  thread_.join();
  connections_.clear();
  close(listener_);
}

void HttpServer::Run() {
  std::vector<pollfd> entries;
  Clock::time_point next_page = Clock::now();
  while (!stopped_) {
    entries.clear();
    for (const Connection& connection : connections_) {
      entries.push_back({connection.socket, connection.Events(), 0});
    }
    if (Clock::now() >= accept_again_)
      entries.push_back({listener_, POLLIN, 0});
    // Every now and then it looks at stopped_ and at what is overdue.
    const auto wait =
        std::clamp(std::chrono::ceil<milliseconds>(next_page - Clock::now()),
                   milliseconds(0), milliseconds(100));
    poll(entries.data(), entries.size(), static_cast<int>(wait.count()));

    const Clock::time_point now = Clock::now();
    size_t i = 0;
    for (auto it = connections_.begin(); it != connections_.end(); ++i) {
      const bool over = now >= it->due || !Continue(&*it, entries[i].revents);
      it = over ? connections_.erase(it) : std::next(it);
    }
    if (i < entries.size() && entries[i].revents != 0) Accept();
    next_page = AnswerRequests();
  }
}

void HttpServer::Accept() {
  // No more at a time than there may be, so that those that are open get on.
  for (size_t i = 0; i < kConnectionsMax; ++i) {
    const int socket =
        accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket < 0) {
      // Out of descriptors: no busy loop.
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        accept_again_ = Clock::now() + milliseconds(100);
      }
      return;
    }
    if (connections_.size() >= kConnectionsMax) {
      // Newcomers are at the back of the list.
      const auto slowest = std::find_if(
          connections_.begin(), connections_.end(), [](const Connection& c) {
            return c.state == Connection::kReading ||
                   c.state == Connection::kLeaving;
          });
      connections_.erase(slowest == connections_.end() ? connections_.begin()
                                                       : slowest);
    }
    connections_.emplace_back(socket, Clock::now());
    // Most requests are there already.
    if (!Continue(&connections_.back(), POLLIN)) connections_.pop_back();
  }
}

bool HttpServer::Continue(Connection* connection, int16_t events) {
  if (events == 0) return true;
  if (connection->state == Connection::kWaiting) {
    return (events & (POLLERR | POLLHUP | POLLNVAL)) == 0;
  }
  if (connection->state == Connection::kWriting) {
    const std::string& out = connection->out;
    const ssize_t size =
        send(connection->socket, out.data() + connection->sent,
             out.size() - connection->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0) return errno == EAGAIN || errno == EINTR;
    connection->sent += static_cast<size_t>(size);
    if (connection->sent == out.size()) {
      // Closing with unread bytes would reset what was just sent.
      shutdown(connection->socket, SHUT_WR);
      connection->state = Connection::kLeaving;
    }
    return true;
  }
  char buffer[4096];
  const ssize_t size =
      recv(connection->socket, buffer, sizeof buffer, MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  if (size == 0) return false;
  if (connection->state == Connection::kLeaving) return true;
  connection->in.append(buffer, static_cast<size_t>(size));
  if (HttpHeadComplete(connection->in)) {
    connection->request = ParseHttpHead(connection->in);
    connection->state = Connection::kWaiting;
    return true;
  }
  return connection->in.size() <= kHttpHeadBytesMax;
}

HttpServer::Clock::time_point HttpServer::AnswerRequests() {
  std::map<std::string, HttpReply> made;
  const Clock::time_point now = Clock::now();
  Clock::time_point next = now + milliseconds(100);
  for (Connection& connection : connections_) {
    if (connection.state != Connection::kWaiting) continue;
    const HttpRequest& request = connection.request;
    HttpReply reply;
    if (request.code == 400) {
      reply = {.code = 400, .body = "this is no HTTP request\n"};
    } else if (request.code == 405) {
      reply = {.code = 405, .body = "only GET and HEAD are allowed here\n"};
    } else if (const auto page = made.find(request.path); page != made.end()) {
      reply = page->second;
    } else if (pages_.count(request.path) == 0) {
      std::string paths;
      for (const auto& [path, _] : pages_) absl::StrAppend(&paths, " ", path);
      reply = {.code = 404,
               .body = absl::StrCat("there is only:", paths, "\n")};
    } else {
      Clock::time_point& again = again_[request.path];
      if (now < again) {
        next = std::min(next, again);
        continue;
      }
      reply = pages_.at(request.path)();
      again = now + reply.period;
      made[request.path] = reply;
    }
    connection.out = absl::StrCat(
        "HTTP/1.1 ", reply.code, " ", Reason(reply.code),
        "\r\nContent-Type: ", reply.type,
        "\r\nContent-Length: ", reply.body.size(),
        reply.code == 405 ? "\r\nAllow: GET, HEAD" : "",
        reply.policy.empty()
            ? ""
            : absl::StrCat("\r\nContent-Security-Policy: ", reply.policy),
        "\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer"
        "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        request.head ? "" : reply.body);
    connection.state = Connection::kWriting;
  }
  return next;
}

}  // namespace latticed
