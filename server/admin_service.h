// AdminService: for operators, on the admin listener.
#pragma once

#include <atomic>
#include <functional>
#include <utility>

#include "latticed/v1/admin.grpc.pb.h"
#include "server/call.h"

namespace latticed {

class AdminServiceImpl final : public v1::AdminService::CallbackService {
 public:
  AdminServiceImpl(ContextRef context, std::function<void()> on_drain_asked)
      : context_(std::move(context)),
        on_drain_asked_(std::move(on_drain_asked)),
        started_(std::chrono::steady_clock::now()) {}

  // Answers, then the server drains. Asked again it only answers.
  grpc::ServerUnaryReactor* DrainServer(
      grpc::CallbackServerContext* grpc_context,
      const v1::DrainServerRequest* request,
      v1::DrainServerResponse* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(
      grpc::CallbackServerContext* grpc_context,
      const v1::GetServerInfoRequest* request,
      v1::GetServerInfoResponse* response) override;

 private:
  const ContextRef context_;
  const std::function<void()> on_drain_asked_;
  const SteadyTime started_;
  std::atomic<bool> drain_asked_{false};
};

}  // namespace latticed
