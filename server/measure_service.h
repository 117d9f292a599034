// MeasureService: Measure.
#pragma once

#include <utility>

#include "latticed/v1/measure.grpc.pb.h"
#include "server/call.h"

namespace latticed {

class MeasureServiceImpl final
    : public v1::MeasureService::WithRawCallbackMethod_Measure<
          v1::MeasureService::Service> {
 public:
  explicit MeasureServiceImpl(ContextRef context)
      : context_(std::move(context)) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Measure(
      grpc::CallbackServerContext* grpc_context,
      const grpc::ByteBuffer* request) override;

 private:
  const ContextRef context_;
};

}  // namespace latticed
