#include "server/measure_service.h"

#include <memory>

#include "server/measure_stream.h"

namespace latticed {

grpc::ServerWriteReactor<grpc::ByteBuffer>* MeasureServiceImpl::Measure(
    grpc::CallbackServerContext* grpc_context,
    const grpc::ByteBuffer* request) {
  return StreamCall::Launch(
      std::make_shared<MeasureStream>(context_, grpc_context), *request);
}

}  // namespace latticed
