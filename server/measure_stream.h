// One Measure call: draws like a stream of samples, but keeps only sums.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "core/stats/block_sums.h"
#include "latticed/v1/measure.pb.h"
#include "server/call.h"

namespace latticed {

class MeasureStream final : public StreamCall {
 public:
  static constexpr uint64_t kDrawsMax = uint64_t{1} << 40;
  static constexpr int kObservablesMax = 1024;
  // Errors of fewer draws are not trusted to end a measurement.
  static constexpr uint64_t kDrawsBeforeEnd = 1024;

  MeasureStream(ContextRef context, grpc::CallbackServerContext* grpc_context)
      : StreamCall(std::move(context), grpc_context,
                   {"MeasureService", "Measure"}) {}
  ~MeasureStream() override;

 private:
  grpc::Status Begin(const grpc::ByteBuffer& bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  bool Produce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  grpc::Status DrainStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;

  grpc::Status CheckBudget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  grpc::Status CheckObservables() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddDraws(const Block& block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddSteps(const Block& block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::map<std::string, Estimate> Estimates() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Reached() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PushMessage(bool final) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  v1::MeasureRequest request_ ABSL_GUARDED_BY(mutex_);
  VersionRef version_ ABSL_GUARDED_BY(mutex_);
  StreamId stream_ ABSL_GUARDED_BY(mutex_);
  std::optional<BlockSums> sums_ ABSL_GUARDED_BY(mutex_);
  WeightSums weights_ ABSL_GUARDED_BY(mutex_);
  uint64_t end_index_ ABSL_GUARDED_BY(mutex_) = 0;  // of the next draw
  uint64_t next_check_ ABSL_GUARDED_BY(mutex_) = kDrawsBeforeEnd;
  int64_t unreported_ ABSL_GUARDED_BY(mutex_) = 0;  // draws in no message yet
  SteadyTime started_ ABSL_GUARDED_BY(mutex_);
  SteadyTime reported_ ABSL_GUARDED_BY(mutex_);

  // Of a chain: where it sits.
  std::optional<Measurement> current_ ABSL_GUARDED_BY(mutex_);
  double current_log_w_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t accepted_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace latticed
