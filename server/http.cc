#include "server/http.h"

#include <civetweb.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latticed {
namespace {

int Silent(const mg_connection*, const char*) { return 1; }

}  // namespace

int HttpServer::Handle(mg_connection* connection) {
  const mg_request_info* request = mg_get_request_info(connection);
  const auto* self = static_cast<const HttpServer*>(request->user_data);
  const std::string method = request->request_method;
  const auto page = self->pages_.find(request->local_uri);
  HttpReply reply;
  if (method != "GET" && method != "HEAD") {
    reply = {.code = 405, .body = "only GET and HEAD are allowed here\n"};
  } else if (page == self->pages_.end()) {
    reply = {.code = 404,
             .body = "there are /, /metrics, /healthz and /readyz\n"};
  } else {
    reply = page->second();
  }
  const std::string head = absl::StrCat(
      "HTTP/1.1 ", reply.code, " ",
      mg_get_response_code_text(connection, reply.code),
      "\r\nContent-Type: ", reply.type, "\r\nContent-Length: ",
      reply.body.size(),
      "\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n");
  mg_write(connection, head.data(), head.size());
  if (method != "HEAD") {
    mg_write(connection, reply.body.data(), reply.body.size());
  }
  return reply.code;
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const Address& address, HttpPages pages) {
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(pages)));
  const std::string listen = address.Name();
  // A slow or silent client holds one of the threads for ten seconds at most.
  const char* options[] = {"listening_ports", listen.c_str(),
                           "num_threads", "4",
                           "request_timeout_ms", "10000",
                           "enable_keep_alive", "no",
                           nullptr};
  mg_callbacks callbacks;
  std::memset(&callbacks, 0, sizeof callbacks);
  callbacks.begin_request = &HttpServer::Handle;
  callbacks.log_message = Silent;
  server->context_ = mg_start(&callbacks, server.get(), options);
  if (server->context_ == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "--http_listen: cannot listen on ", listen,
        ": another program has the port, or the address is not this "
        "machine's; choose another one, or port 0 for any free port"));
  }
  mg_server_port port[1];
  if (mg_get_server_ports(server->context_, 1, port) == 1) {
    server->port_ = port[0].port;
  }
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) mg_stop(context_);
}

}  // namespace latticed
