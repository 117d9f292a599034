// NumPy .npy (format 1.0) and .npz (stored zip) of little-endian arrays.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace latticed {

// Header of an .npy file; the raw array follows. descr: "<f4", "<f8", "<i8",
// "<u8", "|u1".
std::string NpyHeader(absl::string_view descr,
                      absl::Span<const int64_t> shape);

struct NpyArray {
  std::string descr;
  std::vector<int64_t> shape;
  std::string bytes;
};
// INVALID_ARGUMENT on anything but a C-order array of the types above.
absl::StatusOr<NpyArray> ParseNpy(absl::string_view file);

}  // namespace latticed
