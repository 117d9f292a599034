// Constant tables of the fused CPU kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "core/flow/equivariant_shape.h"

namespace latticed {

inline constexpr int kExtentMax = 256;

// Folded cas matrix of size n: cosine[j][k], sine[j][k] of 2 pi j k / n for
// j = 0..n/2 and k = 0..n/4 (even n) or k = 0..n/2 (odd n), rounded down.
template <class T>
struct CasTable {
  explicit CasTable(int64_t extent);
  int n;
  std::vector<T> cosine, sine;
};

// Everything the kernels read of a flow's parameters, laid out as they read
// it. The kernels' transforms are not normalised: the 1/V sits in `khat`.
template <class T>
struct FieldTable {
  explicit FieldTable(const EquivariantShape& shape);
  // parameters as EquivariantShape has them.
  void Set(absl::Span<const float> parameters);

  EquivariantShape shape;
  MomentumOrbits orbits;
  CasTable<T> cas0, cas1;
  std::vector<std::vector<int32_t>> members;  // [orbits] momenta
  std::vector<T> omega;                       // [F]
  std::vector<T> alpha;                       // [G], alpha_0 = 0
  // At the half-step times m / (2N), m = 0..2N: khat / V [m][orbit][G][F+1] and
  // K(0) [m][G][F+1].
  std::vector<T> khat, kernel_origin;
};

// Weight of node t at half-step time m: a hat function.
double HatWeight(const EquivariantShape& shape, int64_t m, int64_t t);

}  // namespace latticed
