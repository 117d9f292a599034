// The identity <phi_x dS/dphi_y> = delta_xy, which every sampler of exp(-S)/Z
// satisfies.
#pragma once

#include <cstdint>
#include <vector>

#include "core/theory/action.h"

namespace latticed {

// (1/V) sum_x phi_x dS/dphi_{x+r} of one configuration for every r, in C
// order: its mean is 1 for r = 0 and 0 elsewhere.
inline std::vector<double> SchwingerDyson(const Action& action,
                                          const std::vector<double>& phi) {
  const int64_t l0 = action.lattice().l0;
  const int64_t l1 = action.lattice().l1;
  std::vector<double> force(phi.size());
  action.Gradient(phi, absl::MakeSpan(force));
  std::vector<double> sums(phi.size(), 0.0);
  for (int64_t r0 = 0; r0 < l0; ++r0) {
    for (int64_t r1 = 0; r1 < l1; ++r1) {
      double sum = 0;
      for (int64_t x0 = 0; x0 < l0; ++x0) {
        for (int64_t x1 = 0; x1 < l1; ++x1) {
          sum +=
              phi[x0 * l1 + x1] * force[(x0 + r0) % l0 * l1 + (x1 + r1) % l1];
        }
      }
      sums[r0 * l1 + r1] = sum / static_cast<double>(l0 * l1);
    }
  }
  return sums;
}

}  // namespace latticed
