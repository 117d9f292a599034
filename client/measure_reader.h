// A measurement that survives broken connections.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/call.h"
#include "client/measure_sums.h"
#include "client/retry.h"
#include "client/session.h"
#include "core/stats/block_sums.h"
#include "latticed/v1/measure.pb.h"

namespace latticed {

// After a break the sums of the last message are kept, the draws go on behind
// them, with the stream and the digest it began with, and everything returned
// is of both together. A chain then begins anew, so its errors come from its
// blocks from there on. Not thread-safe.
class MeasureReader {
 public:
  MeasureReader(std::shared_ptr<const Session> session,
                const v1::MeasureRequest& request);

  // Waits for the next message. False once the budget is used up: the last
  // result returned is the final one. An error ends the measurement: what was
  // returned before it stays valid.
  absl::StatusOr<bool> Next(Measured* measured);

  // Set once Next has returned true; the first time that is before the first
  // draw.
  const v1::Provenance& provenance() const { return provenance_; }
  // Of all draws so far.
  const std::optional<BlockSums>& sums() const { return sums_; }
  int resumes() const { return resumes_; }

 private:
  void Open();
  absl::Status Take(const v1::MeasureResponse& message, Measured* measured);
  uint64_t Done() const;

  std::shared_ptr<const Session> session_;
  const v1::MeasureRequest request_;
  Retry retry_;
  const Stopwatch started_;
  std::unique_ptr<MessageStream<v1::MeasureResponse>> call_;
  bool begun_ = false;
  bool done_ = false;
  v1::Provenance provenance_;
  std::optional<BlockSums> past_;  // of earlier calls
  uint64_t past_accepted_ = 0;
  std::optional<BlockSums> sums_;
  uint64_t accepted_ = 0;
  int resumes_ = 0;
};

}  // namespace latticed
