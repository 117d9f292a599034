// Clients of grpc.health.v1 and of reflection without their .proto files: for
// health, messages of ours with the same fields stand in, a string and a number
// in field 1.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "google/rpc/status.pb.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/impl/codegen/client_unary_call.h"
#include "grpcpp/impl/codegen/rpc_method.h"
#include "grpcpp/support/sync_stream.h"
#include "latticed/v1/model.pb.h"

namespace latticed {

class HealthClient {
 public:
  explicit HealthClient(std::shared_ptr<grpc::Channel> channel)
      : channel_(std::move(channel)) {}

  // "SERVING", "NOT_SERVING", or "NOT_FOUND".
  std::string Check(const std::string& service) {
    const grpc::internal::RpcMethod method(
        "/grpc.health.v1.Health/Check", grpc::internal::RpcMethod::NORMAL_RPC);
    grpc::ClientContext context;
    v1::GetModelRequest request;
    request.set_model(service);
    google::rpc::Status response;
    const grpc::Status status =
        grpc::internal::BlockingUnaryCall<v1::GetModelRequest,
                                          google::rpc::Status>(
            channel_.get(), method, &context, request, &response);
    return status.ok() ? Name(response.code())
           : status.error_code() == grpc::StatusCode::NOT_FOUND
               ? "NOT_FOUND"
               : status.error_message();
  }

  // Every state until the server ends the call.
  std::vector<std::string> Watch(const std::string& service) {
    const grpc::internal::RpcMethod method(
        "/grpc.health.v1.Health/Watch",
        grpc::internal::RpcMethod::SERVER_STREAMING);
    grpc::ClientContext context;
    v1::GetModelRequest request;
    request.set_model(service);
    const std::unique_ptr<grpc::ClientReader<google::rpc::Status>> reader(
        grpc::internal::ClientReaderFactory<google::rpc::Status>::Create(
            channel_.get(), method, &context, request));
    std::vector<std::string> states;
    google::rpc::Status response;
    while (reader->Read(&response)) states.push_back(Name(response.code()));
    reader->Finish();
    return states;
  }

 private:
  static std::string Name(int code) {
    return code == 1   ? "SERVING"
           : code == 2 ? "NOT_SERVING"
                       : std::to_string(code);
  }

  const std::shared_ptr<grpc::Channel> channel_;
};

// The reply to "list services", as bytes; names in it are plain text.
inline std::string ListServices(const std::shared_ptr<grpc::Channel>& channel) {
  const grpc::internal::RpcMethod method(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::internal::RpcMethod::BIDI_STREAMING);
  grpc::ClientContext context;
  const std::unique_ptr<
      grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>>
      stream(grpc::internal::ClientReaderWriterFactory<
             grpc::ByteBuffer, grpc::ByteBuffer>::Create(channel.get(), method,
                                                         &context));
  // list_services = "*", field 7.
  const grpc::Slice request("\x3a\x01*");
  stream->Write(grpc::ByteBuffer(&request, 1));
  stream->WritesDone();
  grpc::ByteBuffer reply;
  std::vector<grpc::Slice> slices;
  std::string text;
  if (stream->Read(&reply) && reply.Dump(&slices).ok()) {
    for (const grpc::Slice& slice : slices) {
      text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
  }
  stream->Finish();
  return text;
}

}  // namespace latticed
