// Sizes and flat layout of the parameters of an equivariant vector field
// (equivariant_field.h), shared by the plain field, the fused kernels and the
// trainer. Plain numbers, no tensors.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "core/flow/parameters.h"
#include "core/theory/lattice.h"

namespace latticed {

// Momenta k that the kernels' symmetry makes equal: orbits of (k_0, k_1) under
// k_mu -> -k_mu, and k_0 <-> k_1 on a square. Ordered by khat^2, then (k_0,
// k_1); orbit 0 is k = 0. A square L x L with even L has
// (L/2 + 1)(L/2 + 2) / 2 of them.
struct MomentumOrbits {
  std::vector<int32_t> of_momentum;  // [V], C order of (k_0, k_1)
  // [orbits][2]: the member with 0 <= k_mu <= L_mu / 2, k_0 >= k_1 on a square.
  std::vector<std::array<int32_t, 2>> representative;
  std::vector<int32_t> size;  // [orbits]

  explicit MomentumOrbits(const Lattice& lattice);
  int64_t count() const { return static_cast<int64_t>(size.size()); }
};

struct EquivariantShape {
  Lattice lattice;
  int64_t sines = 0;   // F
  int64_t gates = 0;   // G, with the constant gate
  int64_t nodes = 0;   // T
  int64_t steps = 0;   // N, RK4 steps
  int64_t orbits = 0;  // of MomentumOrbits(lattice)

  int64_t Features() const { return sines + 1; }
  // Flat parameters: khat [T, G, F+1, orbits], omega [F], alpha [G-1].
  int64_t KhatSize() const { return nodes * gates * Features() * orbits; }
  int64_t OmegaOffset() const { return KhatSize(); }
  int64_t AlphaOffset() const { return KhatSize() + sines; }
  int64_t ParameterCount() const { return AlphaOffset() + gates - 1; }
};

// khat [T, G, F+1, orbits], omega [F], alpha [G-1]; no random start is meant
// (FreeFieldStart).
ParameterLayout LayoutOf(const EquivariantShape& shape);

EquivariantShape MakeEquivariantShape(const Lattice& lattice, int64_t sines,
                                      int64_t gates, int64_t nodes,
                                      int64_t steps);

// The exact Gaussian flow to <|phi_k|^2> = Z_0 / (2 (khat^2 + M^2)):
// Khat_00 = (1/2) log of it at every node, other kernels 0, omega_f evenly
// spaced from 0.5 to 5, alpha_g = g.
std::vector<float> FreeFieldStart(const EquivariantShape& shape, double mass,
                                  double normalisation);

// Parameters of `from` for the shape `to`: Khat(k, t) interpolated linearly in
// each component of k and in t; features and gates that `from` lacks start at
// zero weight. `to` must have at least as many features and gates.
std::vector<float> Transfer(const EquivariantShape& from,
                            absl::Span<const float> parameters,
                            const EquivariantShape& to);

}  // namespace latticed
