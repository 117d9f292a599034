#include "trainer/loss_bound.h"

#include <algorithm>
#include <cmath>

namespace latticed {

bool LossBound::BrokenBy(const Window& window) {
  const double n = static_cast<double>(window.draws());
  if (n < 2) return false;
  const double mean_error = std::sqrt(window.Variance() / n);
  const bool broken =
      window.Mean() - log_z_ > 5 * std::hypot(mean_error, error_);
  const double ess = window.Ess();
  // Relative error of the mean of w: var(w) / <w>^2 = 1 / ESS - 1. Of float32
  // draws it is not below rounding.
  const double error = std::max(1e-6, std::sqrt((1 / ess - 1) / n));
  if (!broken && ess > 0.5 && error < error_) {
    log_z_ = window.LogMeanWeight();
    error_ = error;
  }
  return broken;
}

}  // namespace latticed
