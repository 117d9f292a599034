// Cluster Monte Carlo for phi^4: a Metropolis sweep of phi, then a
// Swendsen-Wang update of its signs at fixed |phi| (Brower and Tamayo, PRL 62
// (1989) 1087). Neighbours x, y of equal sign are bound with probability
//
//   1 - exp(-4 phi_x phi_y),
//
// since a link enters our action as -2 phi_x phi_y; every cluster of bound
// sites then gets a fresh random sign. The signs carry the slow modes near the
// critical line, so tau_int stays of order one there. The magnitudes move by
// the local sweep only: far from m^2 = -4, towards the free field at small
// lambda and small mass, their slow modes decorrelate only as the local
// algorithm does, in about xi^2 sweeps.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "core/montecarlo/random_sequence.h"
#include "core/theory/phi4.h"

namespace latticed {

struct ClusterStep {
  double acceptance = 0;  // of the Metropolis sweep
  int64_t clusters = 0;
};

// Keeps work space. Not thread-safe: one owner.
class ClusterMonteCarlo {
 public:
  explicit ClusterMonteCarlo(const Phi4& action);

  // phi [Sites()] in place. Proposals are uniform within `width` of phi_x.
  ClusterStep Update(double width, absl::Span<double> phi,
                     RandomSequence& random);

  // `updates` updates from phi, during which the width is steered towards an
  // acceptance of one half; returns the width to keep from then on.
  double Thermalise(int64_t updates, absl::Span<double> phi,
                    RandomSequence& random);

 private:
  double Sweep(double width, absl::Span<double> phi, RandomSequence& random);
  int64_t FlipClusters(absl::Span<double> phi, RandomSequence& random);
  int32_t Root(int32_t site);
  void Bind(int32_t x, int32_t y, double phi_x, double phi_y,
            RandomSequence& random);

  const Lattice lattice_;
  const Phi4Couplings couplings_;
  std::vector<int32_t> parent_;  // a forest; roots are their own parents
  std::vector<double> sign_;     // of roots
};

}  // namespace latticed
