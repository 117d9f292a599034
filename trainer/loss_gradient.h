// Gradients of the reverse Kullback-Leibler divergence L = E_q[log q + S]
// (2110.02673 algorithm 2) that a training descends.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "core/random/stream.h"
#include "core/theory/action.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

struct LossGradientResult {
  std::vector<double> gradient;  // of the mean loss, laid out as the parameters
  std::vector<double> log_w;     // [count]
  double loss = 0;               // mean of log q + S over finite draws
  // Draws that overflowed: if any, the gradient is not to be used.
  int64_t non_finite = 0;
};

// Sets loss and non_finite of log_w.
void SumUp(LossGradientResult* result);

// Not thread-safe; uses the process's compute threads. The result is a function
// of the arguments and the number of threads.
class LossGradient {
 public:
  virtual ~LossGradient() = default;
  // Of draws first_index .. first_index + count - 1 of the stream, count >= 1:
  // their share of the gradient of the mean over `batch` draws, which is the
  // sum of its shares.
  virtual LossGradientResult ComputeShare(absl::Span<const float> parameters,
                                          const StreamId& stream,
                                          uint64_t first_index, int64_t count,
                                          int64_t batch) = 0;
  // Of a whole batch.
  LossGradientResult Compute(absl::Span<const float> parameters,
                             const StreamId& stream, uint64_t first_index,
                             int64_t batch) {
    return ComputeShare(parameters, stream, first_index, batch, batch);
  }
};

// The path gradient for equivariant flows, the total gradient for others.
// Requires a valid spec; `action` must outlive the result.
std::unique_ptr<LossGradient> MakeLossGradient(const v1::ModelSpec& spec,
                                               const Action& action);

}  // namespace latticed
