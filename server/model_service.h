// ModelService: what the server has. WatchModelVersions is not implemented yet.
#pragma once

#include "latticed/v1/model.grpc.pb.h"
#include "server/call.h"

namespace latticed {

class ModelServiceImpl final : public v1::ModelService::CallbackService {
 public:
  explicit ModelServiceImpl(ContextRef context)
      : context_(std::move(context)) {}

  grpc::ServerUnaryReactor* ListModels(
      grpc::CallbackServerContext* grpc_context,
      const v1::ListModelsRequest* request,
      v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* grpc_context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerUnaryReactor* ListModelVersions(
      grpc::CallbackServerContext* grpc_context,
      const v1::ListModelVersionsRequest* request,
      v1::ListModelVersionsResponse* response) override;
  grpc::ServerUnaryReactor* GetModelVersion(
      grpc::CallbackServerContext* grpc_context,
      const v1::GetModelVersionRequest* request,
      v1::GetModelVersionResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchModelVersionsResponse>* WatchModelVersions(
      grpc::CallbackServerContext* grpc_context,
      const v1::WatchModelVersionsRequest* request) override;

 private:
  v1::Model Describe(const std::string& model) const;
  grpc::Status CheckModel(const std::string& model) const;

  const ContextRef context_;
};

}  // namespace latticed
