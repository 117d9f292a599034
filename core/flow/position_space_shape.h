// Sizes and parameters of the equivariant flow as published
// (position_space_field.h). Plain numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "core/flow/parameters.h"
#include "core/theory/lattice.h"

namespace latticed {

struct PositionSpaceShape {
  Lattice lattice;
  int64_t sines = 0;          // F
  int64_t feature_bonds = 0;  // A
  int64_t harmonics = 0;      // K
  int64_t time_bonds = 0;     // D
  int64_t steps = 0;          // N, RK4 steps
  bool point_group = true;    // kernels with the symmetry of the lattice
  bool z2 = true;             // odd features only

  // phi and sines; without Z2 also cosines and 1.
  int64_t Features() const { return z2 ? sines + 1 : 2 * sines + 2; }
  int64_t TimeFeatures() const { return 2 * harmonics + 1; }
  // Which number of the kernel a displacement (r_0, r_1) has, [V]: that of its
  // orbit under the point group (as of momenta: MomentumOrbits), or its own.
  // 0 is r = 0.
  std::vector<int64_t> KernelIndex() const;
};

// omega [F], feature_bond [A, features], time_bond [D, 2K + 1], kernel
// [kernel numbers, A, D]. Frequencies start uniform on (0, 5], bonds
// orthogonal, the kernel at 0: the flow starts as the identity.
ParameterLayout LayoutOf(const PositionSpaceShape& shape);

}  // namespace latticed
