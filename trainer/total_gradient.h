// The total gradient of L = E_q[log q + S], through phi and through log q, by
// LibTorch's automatic differentiation: any flow.
#pragma once

#include <memory>

#include "core/flow/base.h"
#include "trainer/loss_gradient.h"

namespace latticed {

// Only the fields between stages are kept; each stage is computed again on the
// way back, so that memory is that of one stage. The gradient is that of the
// discrete map, exact to rounding.
class TotalGradient final : public LossGradient {
 public:
  // `action` must outlive this.
  TotalGradient(const v1::ModelSpec& spec, const Action& action);

  LossGradientResult ComputeShare(absl::Span<const float> parameters,
                                  const StreamId& stream, uint64_t first_index,
                                  int64_t count, int64_t batch) override;

 private:
  const v1::ModelSpec spec_;
  const Action& action_;
  const std::unique_ptr<const BaseDistribution> base_;
};

}  // namespace latticed
