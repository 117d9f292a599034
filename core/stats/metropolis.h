// Independence Metropolis (2110.02673 algorithm 1).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace latticed {

struct Walk {
  std::vector<int64_t> index;  // proposal the chain sits on; -1: its start
  double log_w = 0;            // log weight of the configuration it ends on
  int64_t accepted = 0;
  int64_t non_finite = 0;  // weights NaN or +inf, all rejected
};

// A(i -> j) = min(1, w_j / w_i): moves to proposal j when
// log_u[j] <= log w_j - log w_i, with u uniform on (0, 1]. A start of -inf
// accepts the first finite proposal. Pure.
Walk AcceptReject(double log_w_start, absl::Span<const double> log_w,
                  absl::Span<const double> log_u);

}  // namespace latticed
