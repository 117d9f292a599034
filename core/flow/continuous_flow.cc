#include "core/flow/continuous_flow.h"

#include <ATen/ATen.h>

#include <utility>

namespace latticed {

ContinuousFlow::ContinuousFlow(std::unique_ptr<const VectorField> field,
                               int64_t steps)
    : field_(std::move(field)), steps_(steps) {
  TORCH_CHECK(steps >= 1, "a flow needs at least one step");
}

Draw ContinuousFlow::Integrate(const Draw& start, double t, double h) const {
  at::Tensor phi = start.phi;
  at::Tensor log_q = start.log_q;
  for (int64_t step = 0; step < steps_; ++step) {
    // Times from integers, so that rounding does not pile up.
    const double now = t + static_cast<double>(step) * h;
    const auto k1 = field_->Evaluate(phi, now);
    const auto k2 = field_->Evaluate(phi + (h / 2) * k1.velocity, now + h / 2);
    const auto k3 = field_->Evaluate(phi + (h / 2) * k2.velocity, now + h / 2);
    const auto k4 = field_->Evaluate(phi + h * k3.velocity, now + h);
    phi = phi + (h / 6) * (k1.velocity + 2 * k2.velocity + 2 * k3.velocity +
                           k4.velocity);
    log_q = log_q - (h / 6) * (k1.divergence + 2 * k2.divergence +
                               2 * k3.divergence + k4.divergence)
                                  .to(at::kDouble);
  }
  return {phi, log_q};
}

Draw ContinuousFlow::Forward(const Draw& z) const {
  return Integrate(z, 0, 1.0 / static_cast<double>(steps_));
}

Draw ContinuousFlow::Reverse(const Draw& phi) const {
  return Integrate(phi, 1, -1.0 / static_cast<double>(steps_));
}

}  // namespace latticed
