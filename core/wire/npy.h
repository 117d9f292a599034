// NumPy .npy (format 1.0) and .npz (stored zip) of little-endian arrays.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace latticed {

// Bytes of one element of "<f4", "<f8", "<i8", "<u8" or "|u1", the types known
// here; 0 for any other.
int64_t NpyItemBytes(absl::string_view descr);

// Header of an .npy file; the raw array follows. Padded with spaces to a
// multiple of 64 bytes and at least `bytes_min`.
std::string NpyHeader(absl::string_view descr, absl::Span<const int64_t> shape,
                      int64_t bytes_min = 0);

struct NpyLayout {
  std::string descr;
  std::vector<int64_t> shape;
  int64_t header_bytes = 0;  // before the data
  int64_t data_bytes = 0;
};
// Of the start of a file, 64 KiB of which always suffice. INVALID_ARGUMENT as
// below.
absl::StatusOr<NpyLayout> ParseNpyHeader(absl::string_view file);

struct NpyArray {
  std::string descr;
  std::vector<int64_t> shape;
  std::string bytes;
};
// INVALID_ARGUMENT on anything but a C-order array of the types above.
absl::StatusOr<NpyArray> ParseNpy(absl::string_view file);

}  // namespace latticed
