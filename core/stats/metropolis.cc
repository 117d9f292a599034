#include "core/stats/metropolis.h"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace latticed {

Walk AcceptReject(double log_w_start, absl::Span<const double> log_w,
                  absl::Span<const double> log_u) {
  if (log_w.size() != log_u.size()) {
    std::fprintf(stderr, "%zu proposals with %zu uniform numbers\n",
                 log_w.size(), log_u.size());
    std::abort();
  }
  Walk walk;
  walk.log_w = log_w_start;
  walk.index.reserve(log_w.size());
  int64_t current = -1;
  for (size_t j = 0; j < log_w.size(); ++j) {
    if (std::isnan(log_w[j]) || log_w[j] == HUGE_VAL) {
      ++walk.non_finite;
    } else if (log_u[j] <= log_w[j] - walk.log_w) {
      // -inf minus -inf is NaN: weight zero never follows weight zero.
      current = static_cast<int64_t>(j);
      walk.log_w = log_w[j];
      ++walk.accepted;
    }
    walk.index.push_back(current);
  }
  return walk;
}

}  // namespace latticed
