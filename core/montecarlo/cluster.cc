#include "core/montecarlo/cluster.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace latticed {

ClusterMonteCarlo::ClusterMonteCarlo(const Phi4& action)
    : lattice_(action.lattice()),
      couplings_(action.couplings()),
      parent_(lattice_.Sites()),
      sign_(lattice_.Sites()) {}

ClusterStep ClusterMonteCarlo::Update(double width, absl::Span<double> phi,
                                      RandomSequence& random) {
  ClusterStep step;
  step.acceptance = Sweep(width, phi, random);
  step.clusters = FlipClusters(phi, random);
  return step;
}

double ClusterMonteCarlo::Thermalise(int64_t updates, absl::Span<double> phi,
                                     RandomSequence& random) {
  double width = 1;
  for (int64_t i = 0; i < updates; ++i) {
    const double acceptance = Update(width, phi, random).acceptance;
    // Ever smaller corrections, so that the width settles.
    const double gain = 2 / std::sqrt(10.0 + static_cast<double>(i));
    width = std::clamp(width * std::exp(gain * (acceptance - 0.5)), 1e-3, 1e3);
  }
  return width;
}

double ClusterMonteCarlo::Sweep(double width, absl::Span<double> phi,
                                RandomSequence& random) {
  // The part of S with phi_x in it:
  // phi_x^2 (4 + m^2 + lambda phi_x^2) - 2 phi_x (sum of neighbours).
  const double quadratic = 4 + couplings_.mass_squared;
  const double quartic = couplings_.lambda;
  const int64_t l0 = lattice_.l0;
  const int64_t l1 = lattice_.l1;
  int64_t accepted = 0;
  for (int64_t x0 = 0; x0 < l0; ++x0) {
    double* row = &phi[x0 * l1];
    const double* up = &phi[(x0 > 0 ? x0 - 1 : l0 - 1) * l1];
    const double* down = &phi[(x0 + 1 < l0 ? x0 + 1 : 0) * l1];
    for (int64_t x1 = 0; x1 < l1; ++x1) {
      const double neighbours = up[x1] + down[x1] +
                                row[x1 > 0 ? x1 - 1 : l1 - 1] +
                                row[x1 + 1 < l1 ? x1 + 1 : 0];
      const double here = row[x1];
      const double there = here + width * (2 * random.Uniform() - 1);
      const double here2 = here * here;
      const double there2 = there * there;
      const double delta = there2 * (quadratic + quartic * there2) -
                           here2 * (quadratic + quartic * here2) -
                           2 * (there - here) * neighbours;
      // One uniform number a site either way: the compiler can then overlap
      // sites.
      if (random.Uniform() <= std::exp(-delta)) {
        row[x1] = there;
        ++accepted;
      }
    }
  }
  return static_cast<double>(accepted) / static_cast<double>(lattice_.Sites());
}

int32_t ClusterMonteCarlo::Root(int32_t site) {
  while (parent_[site] != site) {
    parent_[site] = parent_[parent_[site]];  // halves the path
    site = parent_[site];
  }
  return site;
}

void ClusterMonteCarlo::Bind(int32_t x, int32_t y, double phi_x, double phi_y,
                             RandomSequence& random) {
  const double product = phi_x * phi_y;
  if (product <= 0 || random.Uniform() <= std::exp(-4 * product)) return;
  const int32_t a = Root(x);
  const int32_t b = Root(y);
  if (a != b) parent_[std::max(a, b)] = std::min(a, b);
}

int64_t ClusterMonteCarlo::FlipClusters(absl::Span<double> phi,
                                        RandomSequence& random) {
  std::iota(parent_.begin(), parent_.end(), 0);
  const int32_t l0 = static_cast<int32_t>(lattice_.l0);
  const int32_t l1 = static_cast<int32_t>(lattice_.l1);
  for (int32_t x0 = 0; x0 < l0; ++x0) {
    const int32_t row = x0 * l1;
    const int32_t next = (x0 + 1 < l0 ? x0 + 1 : 0) * l1;
    for (int32_t x1 = 0; x1 < l1; ++x1) {
      const int32_t x = row + x1;
      const int32_t right = row + (x1 + 1 < l1 ? x1 + 1 : 0);
      Bind(x, right, phi[x], phi[right], random);
      Bind(x, next + x1, phi[x], phi[next + x1], random);
    }
  }
  // A root is the least site of its cluster: its sign is there before any
  // other site asks for it.
  const int32_t sites = l0 * l1;
  int64_t clusters = 0;
  uint32_t bits = 0;
  for (int32_t x = 0; x < sites; ++x) {
    const int32_t root = Root(x);
    if (root == x) {
      if (clusters % 32 == 0) bits = random.Word();
      sign_[x] = (bits >> (clusters % 32) & 1) != 0 ? -1 : 1;
      ++clusters;
    }
    phi[x] *= sign_[root];
  }
  return clusters;
}

}  // namespace latticed
