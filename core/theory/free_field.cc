#include "core/theory/free_field.h"

#include <cmath>
#include <numbers>

namespace latticed {

double FreeFieldLogZ(const Lattice& lattice, double mass_squared) {
  double sum = 0;
  for (int64_t k0 = 0; k0 < lattice.l0; ++k0) {
    for (int64_t k1 = 0; k1 < lattice.l1; ++k1) {
      sum += std::log(KhatSquared(lattice, k0, k1) + mass_squared);
    }
  }
  return 0.5 * (lattice.Sites() * std::log(std::numbers::pi) - sum);
}

std::vector<double> FreeFieldPropagator(const Lattice& lattice,
                                        double mass_squared) {
  // The spectrum is even in each k_mu, so cos(k r) factorises into cosines of
  // one axis each: two passes of L-point sums instead of a double sum.
  const int64_t l0 = lattice.l0;
  const int64_t l1 = lattice.l1;
  const auto cosine = [](int64_t k, int64_t r, int64_t l) {
    return std::cos(2 * std::numbers::pi * static_cast<double>(k * r % l) / l);
  };
  std::vector<double> half(l0 * l1, 0.0);  // [k0, r1]
  for (int64_t k0 = 0; k0 < l0; ++k0) {
    for (int64_t k1 = 0; k1 < l1; ++k1) {
      const double mode = 0.5 / (KhatSquared(lattice, k0, k1) + mass_squared);
      for (int64_t r1 = 0; r1 < l1; ++r1) {
        half[k0 * l1 + r1] += mode * cosine(k1, r1, l1);
      }
    }
  }
  std::vector<double> propagator(l0 * l1, 0.0);
  for (int64_t r0 = 0; r0 < l0; ++r0) {
    for (int64_t k0 = 0; k0 < l0; ++k0) {
      const double c = cosine(k0, r0, l0) / lattice.Sites();
      for (int64_t r1 = 0; r1 < l1; ++r1) {
        propagator[r0 * l1 + r1] += c * half[k0 * l1 + r1];
      }
    }
  }
  return propagator;
}

}  // namespace latticed
