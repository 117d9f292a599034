// Draws from the equivariant continuous flow with a standard-normal base
// through the fused CPU kernels.
#pragma once

#include <memory>
#include <vector>

#include "core/kernels/cpu/equivariant_kernel.h"
#include "core/sampling/tile_sampler.h"
#include "core/theory/action.h"

namespace latticed {

class FusedSampler final : public TileSampler {
 public:
  // parameters as EquivariantShape has them; tile >= 1.
  FusedSampler(const EquivariantShape& shape,
               absl::Span<const float> parameters,
               std::unique_ptr<const Action> action, int64_t tile);

  const Lattice& lattice() const override { return action_->lattice(); }
  int64_t tile() const override { return tile_; }
  std::string numerics_mode() const override;
  void Draw(absl::Span<const DrawId> ids, const DrawSpans& out) override;
  void Evaluate(absl::Span<const float> phi, absl::Span<double> log_q,
                absl::Span<double> action) override;

 private:
  EquivariantKernel<float> kernel_;
  std::unique_ptr<const Action> action_;
  int64_t tile_;
  std::vector<Workspace<float>> spaces_;  // one a compute thread
  std::vector<std::vector<float>> base_;  // z, one a compute thread
};

// log r(z) = -sum z^2 / 2 - (V/2) log 2 pi, accumulated in double.
double StandardNormalLogDensity(absl::Span<const float> z);

}  // namespace latticed
