#include "core/stats/jackknife.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace latticed {

int64_t JackknifeBlocks(int64_t n) { return std::min(n, kJackknifeBlocks); }

int64_t JackknifeBlock(int64_t i, int64_t n) {
  return i * JackknifeBlocks(n) / n;
}

double JackknifeError(absl::Span<const double> leave_one_out) {
  if (leave_one_out.size() < 2) {
    return std::numeric_limits<double>::infinity();
  }
  const double blocks = static_cast<double>(leave_one_out.size());
  double mean = 0;
  for (const double theta : leave_one_out) mean += theta / blocks;
  double sum = 0;
  for (const double theta : leave_one_out) {
    sum += (theta - mean) * (theta - mean);
  }
  return std::sqrt((blocks - 1) / blocks * sum);
}

}  // namespace latticed
