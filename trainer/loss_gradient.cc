#include "trainer/loss_gradient.h"

#include <algorithm>
#include <cmath>

#include "core/factory.h"
#include "trainer/path_gradient.h"
#include "trainer/total_gradient.h"

namespace latticed {

void SumUp(LossGradientResult* result) {
  for (const double log_w : result->log_w) {
    if (std::isfinite(log_w)) {
      result->loss -= log_w;
    } else {
      ++result->non_finite;
    }
  }
  const auto finite =
      static_cast<int64_t>(result->log_w.size()) - result->non_finite;
  result->loss /= static_cast<double>(std::max<int64_t>(1, finite));
}

std::unique_ptr<LossGradient> MakeLossGradient(const v1::ModelSpec& spec,
                                               const Action& action) {
  if (spec.flow().has_equivariant()) {
    return std::make_unique<PathGradient>(MakeShape(spec), action);
  }
  return std::make_unique<TotalGradient>(spec, action);
}

}  // namespace latticed
