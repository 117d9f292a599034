// Named tensors of a flow's weights, and safetensors files of them: data, no
// code. A file is an 8-byte little-endian header length, a JSON header and the
// raw tensors.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace latticed {

struct WeightTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;  // C order
};
using Weights = std::map<std::string, WeightTensor>;

// Limits of a file: header 1 MiB, 4096 tensors, 8 dimensions, 1 GiB in all.
// F32 only, names of 1..256 letters, digits and ._-. Every
// size and offset is checked before memory is taken, tensors
// must tile the buffer without gaps or overlaps: DATA_LOSS names what is wrong.
// Non-finite values are DATA_LOSS too and name the tensor.
absl::StatusOr<Weights> ParseSafetensors(absl::string_view bytes);
// Deterministic. The weights must be such as ParseSafetensors accepts.
std::string SerializeSafetensors(const Weights& weights);

}  // namespace latticed
