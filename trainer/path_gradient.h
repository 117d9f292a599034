// The path (sticking-the-landing) gradient of the reverse Kullback-Leibler
// divergence L = E_q[log q + S] of the equivariant flow (2110.02673 algorithm
// 2; the estimator of 2207.08219): with the score s = grad log q integrated
// along the flow, the cotangent s(1) + grad S(phi(1)) is pulled back through
// d phi / dt = v alone. Its variance vanishes as q -> p.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "core/kernels/cpu/equivariant_kernel.h"
#include "core/random/stream.h"
#include "core/theory/action.h"

namespace latticed {

struct PathGradientResult {
  std::vector<double> gradient;  // of the mean loss, laid out as the parameters
  std::vector<double> log_w;     // [batch]
  double loss = 0;               // mean of log q + S over finite draws
  // Draws that overflowed: if any, the gradient is not to be used.
  int64_t non_finite = 0;
};

// Not thread-safe; uses the process's compute threads. The result is a function
// of (parameters, stream, first_index, batch, number of threads).
class PathGradient {
 public:
  // `action` must outlive this.
  PathGradient(const EquivariantShape& shape, const Action& action);

  PathGradientResult Compute(absl::Span<const float> parameters,
                             const StreamId& stream, uint64_t first_index,
                             int64_t batch);

 private:
  struct Thread {
    Workspace<float> space;
    std::vector<float> z, phi, score;
    std::vector<double> field, gradient;  // one configuration
  };

  EquivariantKernel<float> kernel_;
  const Action& action_;
  std::vector<Thread> threads_;
};

}  // namespace latticed
