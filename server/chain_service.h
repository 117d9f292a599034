// ChainService: RunChain and VerifyChainToken.
#pragma once

#include "latticed/v1/chain.grpc.pb.h"
#include "server/call.h"

namespace latticed {

class ChainServiceImpl final
    : public v1::ChainService::WithRawCallbackMethod_RunChain<
          v1::ChainService::WithCallbackMethod_VerifyChainToken<
              v1::ChainService::Service>> {
 public:
  explicit ChainServiceImpl(ContextRef context)
      : context_(std::move(context)) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* RunChain(
      grpc::CallbackServerContext* grpc_context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* VerifyChainToken(
      grpc::CallbackServerContext* grpc_context,
      const v1::VerifyChainTokenRequest* request,
      v1::VerifyChainTokenResponse* response) override;

 private:
  const ContextRef context_;
};

}  // namespace latticed
