// Whether a training still minimises a Kullback-Leibler divergence.
#pragma once

#include <limits>

#include "trainer/window.h"

namespace latticed {

// E_q[log w] = log Z - KL(q || p) <= log Z, if log q is the density of what is
// drawn. That of a continuous flow has the integrator's error, and once this is
// more than noise a training can make the loss smaller through it alone, and
// does, until the flow is lost (docs/decisions/0003-training-recipe.md).
class LossBound {
 public:
  // Takes the next window. Whether its mean of log w is above log Z by more
  // than five standard errors. log Z is the mean of w of the earlier window
  // that knows it best, and is not known before one has an ESS of a half.
  bool BrokenBy(const Window& window);

  double log_z() const { return log_z_; }

 private:
  double log_z_ = 0;
  double error_ = std::numeric_limits<double>::infinity();
};

}  // namespace latticed
