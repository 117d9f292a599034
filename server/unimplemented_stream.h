// A server stream that ends at once with UNIMPLEMENTED and its details.
#pragma once

#include "grpcpp/support/server_callback.h"
#include "server/call.h"
#include "server/errors.h"

namespace latticed {

template <typename Response>
class UnimplementedStream final : public grpc::ServerWriteReactor<Response> {
 public:
  UnimplementedStream(const ContextRef& context, RpcName rpc)
      : record_(context->metrics, rpc) {
    this->Finish(Unimplemented(rpc.method));
  }
  void OnDone() override {
    record_.End(grpc::StatusCode::UNIMPLEMENTED);
    delete this;
  }

 private:
  RpcRecord record_;
};

}  // namespace latticed
