// Hybrid Monte Carlo for any action.
//
// With momenta p ~ N(0, 1) and H = p^2/2 + S[phi], a trajectory integrates
// Hamilton's equations with the second-order minimum-norm integrator of
// Omelyan, Mryglod and Folk (hep-lat/0505020 eq. 19, xi = 0.1931833), and is
// accepted with probability min(1, exp(-dH)); so <exp(-dH)> = 1 exactly. The
// step is drawn anew for every trajectory, uniform within `jitter` of the
// nominal one: a fixed length returns to its start for some mode of a free
// field.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "core/montecarlo/random_sequence.h"
#include "core/theory/action.h"

namespace latticed {

struct HmcOptions {
  double length = 1;    // of a trajectory, steps times the nominal step
  int64_t steps = 10;   // two gradients each
  double jitter = 0.1;  // relative, in [0, 1)
};

struct HmcStep {
  bool accepted = false;
  double delta_h = 0;  // H after minus H before; NaN is rejected
};

// Keeps work space; the action must outlive it. Not thread-safe: one owner.
class Hmc {
 public:
  Hmc(const Action& action, const HmcOptions& options);

  // One trajectory from phi [Sites()]; leaves phi where the chain goes next.
  HmcStep Update(absl::Span<double> phi, RandomSequence& random);

 private:
  void Kick(double step, absl::Span<const double> phi);

  const Action& action_;
  const HmcOptions options_;
  std::vector<double> momentum_;
  std::vector<double> gradient_;
  std::vector<double> proposal_;
};

}  // namespace latticed
