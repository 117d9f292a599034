// One StreamSamples call.
#pragma once

#include "core/stats/log_weights.h"
#include "server/call.h"
#include "server/codec.h"

namespace latticed {

class SampleStream final : public StreamCall {
 public:
  // 1..2^40 draws a call.
  static constexpr uint64_t kCountMax = uint64_t{1} << 40;

  SampleStream(ContextRef context, grpc::CallbackServerContext* grpc_context)
      : StreamCall(std::move(context), grpc_context,
                   {"SamplerService", "StreamSamples"}) {}

 private:
  grpc::Status Begin(const grpc::ByteBuffer& bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  bool Produce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  grpc::Status DrainStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;

  VersionRef version_ ABSL_GUARDED_BY(mutex_);  // of the last block
  StreamId stream_ ABSL_GUARDED_BY(mutex_);
  BlockContent content_ ABSL_GUARDED_BY(mutex_);
  WeightSums sums_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
