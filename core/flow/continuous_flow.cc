#include "core/flow/continuous_flow.h"

#include <ATen/ATen.h>

#include <utility>

namespace latticed {

ContinuousFlow::ContinuousFlow(std::unique_ptr<const VectorField> field,
                               int64_t steps)
    : field_(std::move(field)), steps_(steps) {
  TORCH_CHECK(steps >= 1, "a flow needs at least one step");
}

Draw ContinuousFlow::Step(const Draw& start, double t, double h) const {
  const at::Tensor& phi = start.phi;
  const auto k1 = field_->Evaluate(phi, t);
  const auto k2 = field_->Evaluate(phi + (h / 2) * k1.velocity, t + h / 2);
  const auto k3 = field_->Evaluate(phi + (h / 2) * k2.velocity, t + h / 2);
  const auto k4 = field_->Evaluate(phi + h * k3.velocity, t + h);
  return {phi + (h / 6) * (k1.velocity + 2 * k2.velocity + 2 * k3.velocity +
                           k4.velocity),
          start.log_q - (h / 6) * (k1.divergence + 2 * k2.divergence +
                                   2 * k3.divergence + k4.divergence)
                                      .to(at::kDouble)};
}

// Times from integers, so that rounding does not pile up.
Draw ContinuousFlow::ForwardStage(int64_t stage, const Draw& draw) const {
  const double h = 1.0 / static_cast<double>(steps_);
  return Step(draw, static_cast<double>(stage) * h, h);
}

Draw ContinuousFlow::ReverseStage(int64_t stage, const Draw& draw) const {
  const double h = 1.0 / static_cast<double>(steps_);
  return Step(draw, 1 - static_cast<double>(steps_ - 1 - stage) * h, -h);
}

}  // namespace latticed
