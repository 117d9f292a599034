// A periodic two-dimensional lattice with unit spacing. Site (x_0, x_1) has
// index x_0 L_1 + x_1 (C order).
#pragma once

#include <cstdint>
#include <string>

namespace latticed {

struct Lattice {
  int64_t l0 = 0;
  int64_t l1 = 0;

  int64_t Sites() const { return l0 * l1; }
  bool Square() const { return l0 == l1; }
  // "8x8"
  std::string Name() const {
    return std::to_string(l0) + "x" + std::to_string(l1);
  }
  friend bool operator==(const Lattice&, const Lattice&) = default;
};

// khat^2 = sum_mu 4 sin^2(pi k_mu / L_mu), the spectrum of minus the lattice
// Laplacian.
double KhatSquared(const Lattice& lattice, int64_t k0, int64_t k1);

}  // namespace latticed
