// SamplerService: Sample, StreamSamples and EvaluateLogProb.
#pragma once

#include <atomic>
#include <memory>

#include "latticed/v1/sampler.grpc.pb.h"
#include "server/call.h"

namespace latticed {

// StreamSamples takes and gives raw bytes, so that payloads are not copied.
class SamplerServiceImpl final
    : public v1::SamplerService::WithCallbackMethod_Sample<
          v1::SamplerService::WithRawCallbackMethod_StreamSamples<
              v1::SamplerService::WithCallbackMethod_EvaluateLogProb<
                  v1::SamplerService::Service>>> {
 public:
  explicit SamplerServiceImpl(ContextRef context)
      : context_(std::move(context)) {}

  grpc::ServerUnaryReactor* Sample(grpc::CallbackServerContext* grpc_context,
                                   const v1::SampleRequest* request,
                                   v1::SampleResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamSamples(
      grpc::CallbackServerContext* grpc_context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerBidiReactor<v1::EvaluateLogProbRequest,
                          v1::EvaluateLogProbResponse>*
  EvaluateLogProb(grpc::CallbackServerContext* grpc_context) override;

 private:
  const ContextRef context_;
  const std::shared_ptr<std::atomic<int>> evaluating_ =
      std::make_shared<std::atomic<int>>(0);
};

}  // namespace latticed
