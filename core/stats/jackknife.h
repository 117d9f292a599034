// Delete-one-block jackknife of independent measurements. Pure.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace latticed {

inline constexpr int64_t kJackknifeBlocks = 64;

// Blocks for n measurements: 64, fewer for fewer measurements.
int64_t JackknifeBlocks(int64_t n);

// The block of measurement i < n: contiguous blocks whose sizes differ by at
// most one.
int64_t JackknifeBlock(int64_t i, int64_t n);

// sqrt((B - 1)/B sum_b (theta_b - mean theta)^2) of the B estimates theta_b
// that leave block b out; infinite, since unknown, for B < 2.
double JackknifeError(absl::Span<const double> leave_one_out);

}  // namespace latticed
