// Draws from any flow through LibTorch, on any of its devices: the reference
// of the fused sampler, and the path of flows and devices without one.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/flow/base.h"
#include "core/flow/flow.h"
#include "core/sampling/tile_sampler.h"
#include "core/theory/action.h"

namespace latticed {

// Always computes whole tiles, padded with the first draw, so that the shapes
// LibTorch sees, and with them a draw's bits, do not depend on the request.
class PlainSampler final : public TileSampler {
 public:
  // `flow` and `base` live on `device` ("cpu", "cuda:0"); `description` names
  // the flow's numerics, e.g. "rk4=8".
  PlainSampler(std::unique_ptr<const Flow> flow,
               std::unique_ptr<const BaseDistribution> base,
               std::unique_ptr<const Action> action, int64_t tile,
               std::string device, std::string description);
  ~PlainSampler() override;

  const Lattice& lattice() const override { return action_->lattice(); }
  int64_t tile() const override { return tile_; }
  std::string numerics_mode() const override;
  void Draw(absl::Span<const DrawId> ids, const DrawSpans& out) override;
  void Evaluate(absl::Span<const float> phi, absl::Span<double> log_q,
                absl::Span<double> action) override;

 private:
  void DrawTile(absl::Span<const DrawId> ids, const DrawSpans& out) const;
  void EvaluateTile(absl::Span<const float> phi, absl::Span<double> log_q,
                    absl::Span<double> action) const;
  at::Tensor Tile(const std::function<void(int64_t, float*)>& fill,
                  int64_t count) const;

  std::unique_ptr<const Flow> flow_;
  std::unique_ptr<const BaseDistribution> base_;
  std::unique_ptr<const Action> action_;
  int64_t tile_;
  std::string device_, description_;
};

}  // namespace latticed
