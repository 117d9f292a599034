// Statistics of importance weights w = exp(log w), log w = -S - log q.
//
// Everything is computed relative to the largest log weight, so nothing
// overflows. Non-finite log weights (NaN, +inf) are counted and left out; -inf
// is weight zero. An error that cannot be known (fewer than two draws) is
// infinite. Functions are pure; classes are thread-compatible.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace latticed {

struct Estimate {
  double value = 0;
  double error = 0;  // one standard deviation
};

// Mergeable sums: the merge of shards is the sum of the union, exactly as long
// as the shards' maxima agree and to rounding otherwise.
class WeightSums {
 public:
  // What the accessors below return, of sums made elsewhere.
  struct Parts {
    uint64_t draws = 0;
    uint64_t non_finite = 0;
    double log_w_max = 0;
    double sum_w = 0;
    double sum_w2 = 0;
  };
  static WeightSums FromParts(const Parts& parts);

  void Add(double log_w);
  void Merge(const WeightSums& other);

  uint64_t draws() const { return draws_; }  // finite ones
  uint64_t non_finite() const { return non_finite_; }
  double log_w_max() const { return log_w_max_; }
  double sum_w() const { return sum_w_; }  // of exp(log w - log_w_max)
  double sum_w2() const { return sum_w2_; }
  // Effective sample size per draw, (sum w)^2 / (n sum w^2) in [0, 1]; 0 for
  // no draws.
  double Ess() const;

 private:
  uint64_t draws_ = 0;
  uint64_t non_finite_ = 0;
  double log_w_max_ = 0;
  double sum_w_ = 0;
  double sum_w2_ = 0;
};

// Delete-one-block jackknife over 64 blocks (fewer for fewer draws).
Estimate Ess(absl::Span<const double> log_w);
// Mean acceptance of independence Metropolis at equilibrium: the exact double
// sum over pairs i != j, E_{i~p, j~q} min(1, w_j/w_i), by sorting, O(n log n).
Estimate Acceptance(absl::Span<const double> log_w);
// Var(log w); divide by V for the headline number. Infinite if a weight is 0.
Estimate LogWeightVariance(absl::Span<const double> log_w);
// log Z = log E_q[w].
Estimate LogZ(absl::Span<const double> log_w);

}  // namespace latticed
