#include "core/theory/lattice.h"

#include <cmath>
#include <numbers>

namespace latticed {

double KhatSquared(const Lattice& lattice, int64_t k0, int64_t k1) {
  const double s0 = std::sin(std::numbers::pi * k0 / lattice.l0);
  const double s1 = std::sin(std::numbers::pi * k1 / lattice.l1);
  return 4 * (s0 * s0 + s1 * s1);
}

}  // namespace latticed
