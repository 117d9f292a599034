#include "server/chain_service.h"

#include "server/chain_stream.h"
#include "server/codec.h"

namespace latticed {

grpc::ServerWriteReactor<grpc::ByteBuffer>* ChainServiceImpl::RunChain(
    grpc::CallbackServerContext* grpc_context,
    const grpc::ByteBuffer* request) {
  return StreamCall::Launch(
      std::make_shared<ChainStream>(context_, grpc_context), *request);
}

grpc::ServerUnaryReactor* ChainServiceImpl::VerifyChainToken(
    grpc::CallbackServerContext* grpc_context,
    const v1::VerifyChainTokenRequest* request,
    v1::VerifyChainTokenResponse* response) {
  RpcRecord record(context_->metrics, {"ChainService", "VerifyChainToken"});
  ChainState state;
  VersionRef version;
  std::string principal;
  grpc::Status status =
      context_->authorizer->Check(*grpc_context, Role::kSampler, &principal);
  if (status.ok()) {
    status = OpenChain(*context_, request->token(), &state, &version);
  }
  if (status.ok()) {
    *response->mutable_provenance() =
        MakeProvenance(*version, state.stream, state.step);
    response->set_steps(state.step);
    response->set_accepted(state.accepted);
    response->set_thinning(state.thinning);
  }
  record.End(status.error_code());
  grpc::ServerUnaryReactor* reactor = grpc_context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace latticed
