// The parameters of a flow: named tensors, one after the other in a flat
// vector that the trainer, the checkpoints and the flows share. Plain numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/random/stream.h"

namespace latticed {

// Where a training from nothing starts.
struct ParameterStart {
  double low = 0, high = 0;  // uniform on (low, high]; equal: constant
  // Instead: a matrix with orthonormal rows, or columns if there are more rows.
  bool orthogonal = false;
};

struct ParameterTensor {
  std::string name;            // in the checkpoint
  std::vector<int64_t> shape;  // C order
  ParameterStart start;

  int64_t Size() const;
};

using ParameterLayout = std::vector<ParameterTensor>;

int64_t ParameterCount(const ParameterLayout& layout);

// A function of (layout, stream).
std::vector<float> RandomStart(const ParameterLayout& layout,
                               const StreamId& stream);

}  // namespace latticed
