#include "server/chain_service.h"

#include "server/chain_stream.h"
#include "server/chain_update.h"
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
  ChainSet chains;
  VersionRef version;
  std::string principal;
  grpc::Status status =
      context_->authorizer->Check(*grpc_context, Role::kSampler, &principal);
  if (status.ok()) {
    status = OpenChains(*context_, request->token(), &chains, &version);
  }
  if (status.ok()) {
    const ChainState& first = chains.front();
    *response->mutable_provenance() =
        MakeProvenance(*version, first.stream, first.step);
    response->set_steps(first.step);
    uint64_t accepted = 0;
    for (const ChainState& chain : chains) accepted += chain.accepted;
    response->set_accepted(accepted);
    response->set_thinning(first.thinning);
    response->set_chains(static_cast<uint32_t>(chains.size()));
    if (first.update_interval > 0) {
      *response->mutable_update() = UpdateMessage(first);
    }
  }
  record.End(status.error_code());
  grpc::ServerUnaryReactor* reactor = grpc_context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace latticed
