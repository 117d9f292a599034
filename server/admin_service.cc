#include "server/admin_service.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "latticed/build_id.h"
#include "server/log.h"

namespace latticed {

grpc::ServerUnaryReactor* AdminServiceImpl::DrainServer(
    grpc::CallbackServerContext* grpc_context, const v1::DrainServerRequest*,
    v1::DrainServerResponse*) {
  RpcRecord record(context_->metrics, {"AdminService", "DrainServer"});
  std::string principal;
  const grpc::Status status =
      context_->authorizer->Check(*grpc_context, Role::kAdmin, &principal);
  record.End(status.error_code());
  grpc::ServerUnaryReactor* reactor = grpc_context->DefaultReactor();
  reactor->Finish(status);
  if (status.ok() && !drain_asked_.exchange(true)) {
    Log(LogLevel::kInfo, absl::StrCat(principal, " asks to drain"));
    if (on_drain_asked_) on_drain_asked_();
  }
  return reactor;
}

grpc::ServerUnaryReactor* AdminServiceImpl::GetServerInfo(
    grpc::CallbackServerContext* grpc_context, const v1::GetServerInfoRequest*,
    v1::GetServerInfoResponse* response) {
  RpcRecord record(context_->metrics, {"AdminService", "GetServerInfo"});
  std::string principal;
  const grpc::Status status =
      context_->authorizer->Check(*grpc_context, Role::kAdmin, &principal);
  if (status.ok()) {
    response->set_build(kBuildId);
    response->set_device(context_->config.device);
    // Of what is live; models of one server may differ.
    std::set<std::string> modes;
    for (const VersionRef& version : context_->store->AllLive()) {
      modes.insert(version->numerics_mode);
    }
    response->set_numerics_mode(absl::StrJoin(modes, " "));
    response->set_uptime_seconds(
        std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                      started_)
            .count());
    for (auto& [flag, value] : Settings(context_->config)) {
      (*response->mutable_config())[flag] = value;
    }
  }
  record.End(status.error_code());
  grpc::ServerUnaryReactor* reactor = grpc_context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace latticed
