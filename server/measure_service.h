// MeasureService: not implemented yet.
#pragma once

#include <utility>

#include "latticed/v1/measure.grpc.pb.h"
#include "server/unimplemented_stream.h"

namespace latticed {

class MeasureServiceImpl final : public v1::MeasureService::CallbackService {
 public:
  explicit MeasureServiceImpl(ContextRef context)
      : context_(std::move(context)) {}

  grpc::ServerWriteReactor<v1::MeasureResponse>* Measure(
      grpc::CallbackServerContext*, const v1::MeasureRequest*) override {
    return new UnimplementedStream<v1::MeasureResponse>(
        context_, {"MeasureService", "Measure"});
  }

 private:
  const ContextRef context_;
};

}  // namespace latticed
