// The path (sticking-the-landing) gradient of the reverse Kullback-Leibler
// divergence L = E_q[log q + S] of the equivariant flow (2110.02673 algorithm
// 2; the estimator of 2207.08219): with the score s = grad log q integrated
// along the flow, the cotangent s(1) + grad S(phi(1)) is pulled back through
// d phi / dt = v alone. Its variance vanishes as q -> p.
#pragma once

#include <vector>

#include "core/kernels/cpu/equivariant_kernel.h"
#include "trainer/loss_gradient.h"

namespace latticed {

class PathGradient final : public LossGradient {
 public:
  // `action` must outlive this.
  PathGradient(const EquivariantShape& shape, const Action& action);

  LossGradientResult ComputeShare(absl::Span<const float> parameters,
                                  const StreamId& stream, uint64_t first_index,
                                  int64_t count, int64_t batch) override;

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
