#include "core/flow/position_space_shape.h"

#include <algorithm>
#include <numeric>

#include "core/flow/equivariant_shape.h"

namespace latticed {

std::vector<int64_t> PositionSpaceShape::KernelIndex() const {
  if (point_group) {
    const MomentumOrbits orbits(lattice);
    return {orbits.of_momentum.begin(), orbits.of_momentum.end()};
  }
  std::vector<int64_t> index(lattice.Sites());
  std::iota(index.begin(), index.end(), 0);
  return index;
}

ParameterLayout LayoutOf(const PositionSpaceShape& shape) {
  const std::vector<int64_t> index = shape.KernelIndex();
  const int64_t numbers = *std::max_element(index.begin(), index.end()) + 1;
  return {{"omega", {shape.sines}, {.low = 0, .high = 5}},
          {"feature_bond",
           {shape.feature_bonds, shape.Features()},
           {.orthogonal = true}},
          {"time_bond",
           {shape.time_bonds, shape.TimeFeatures()},
           {.orthogonal = true}},
          {"kernel", {numbers, shape.feature_bonds, shape.time_bonds}, {}}};
}

}  // namespace latticed
