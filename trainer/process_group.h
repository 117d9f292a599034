// The processes of one training, joined by LibTorch's c10d: a store to find
// each other, Gloo for what they exchange.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/process_place.h"

namespace latticed {

struct ProcessLimits {
  double join_seconds = 60;  // until all have come
  // The longest wait for the others in one exchange.
  double exchange_seconds = 120;
};

// Every process makes the same calls in the same order. UNAVAILABLE once one
// is gone or does not answer, then from every later call too; it names those
// processes. Not thread-safe.
class ProcessGroup {
 public:
  // One process, for which every call does nothing.
  static std::unique_ptr<ProcessGroup> Alone();
  // Returns when all have come. DEADLINE_EXCEEDED or UNAVAILABLE if they do
  // not, or the store's port is taken.
  static absl::StatusOr<std::unique_ptr<ProcessGroup>> Join(
      const ProcessPlace& place, const ProcessLimits& limits);
  // Process 0 stays, for a bounded time, until the others have left.
  ~ProcessGroup();

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool alone() const { return size_ == 1; }
  bool first() const { return rank_ == 0; }

  // values[i] becomes its sum over all processes: the same bits in each, and
  // a function of the summands and the number of processes.
  absl::Status SumUp(absl::Span<double> values);
  // Process 0's, in each. At most 1 GiB.
  absl::Status Share(std::string* bytes);

  // Of SumUp and Share so far: what was in them, without what c10d adds.
  int64_t bytes_exchanged() const { return bytes_exchanged_; }

 private:
  struct Torch;

  ProcessGroup(int rank, int size);
  absl::Status Lost(const std::string& what);
  std::string Missing();

  int rank_;
  int size_;
  int64_t bytes_exchanged_ = 0;
  absl::Status broken_;
  std::unique_ptr<Torch> torch_;
};

}  // namespace latticed
