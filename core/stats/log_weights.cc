#include "core/stats/log_weights.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <vector>

#include "core/stats/jackknife.h"

namespace latticed {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool Usable(double log_w) { return !std::isnan(log_w) && log_w != kInfinity; }

// The usable weights relative to their maximum, in the order of the draws.
struct Weights {
  std::vector<double> w;
  double log_w_max = 0;

  int64_t size() const { return static_cast<int64_t>(w.size()); }
};

Weights RelativeWeights(absl::Span<const double> log_w) {
  Weights weights;
  weights.log_w_max = -kInfinity;
  for (const double value : log_w) {
    if (!Usable(value)) continue;
    weights.w.push_back(value);
    weights.log_w_max = std::max(weights.log_w_max, value);
  }
  for (double& value : weights.w) {
    value = weights.log_w_max == -kInfinity
                ? 0
                : std::exp(value - weights.log_w_max);
  }
  return weights;
}

// Sums over one block or over all draws; what they are sums of is up to the
// estimator.
struct Sums {
  double n = 0;
  double a = 0;
  double b = 0;
};

// f of all sums, with the error from f of the sums less one block each. `terms`
// gives (a, b) of one draw's value.
Estimate Jackknife(absl::Span<const double> values,
                   const std::function<Sums(double)>& terms,
                   const std::function<double(const Sums&)>& f) {
  const int64_t n = static_cast<int64_t>(values.size());
  std::vector<Sums> blocks(JackknifeBlocks(n));
  Sums total;
  for (int64_t i = 0; i < n; ++i) {
    const Sums term = terms(values[i]);
    for (Sums* sums : {&blocks[JackknifeBlock(i, n)], &total}) {
      sums->n += 1;
      sums->a += term.a;
      sums->b += term.b;
    }
  }
  std::vector<double> leave_one_out;
  leave_one_out.reserve(blocks.size());
  for (const Sums& block : blocks) {
    leave_one_out.push_back(
        f({total.n - block.n, total.a - block.a, total.b - block.b}));
  }
  return {f(total), JackknifeError(leave_one_out)};
}

double EssOf(const Sums& s) { return s.b > 0 ? s.a * s.a / (s.n * s.b) : 0; }

// sum_{i,j} min(w_i, w_j) over ascending weights, the diagonal included: w_k is
// the lesser of 2 (n - 1 - k) ordered pairs, and of itself.
double PairSum(absl::Span<const double> sorted) {
  double sum = 0;
  const size_t n = sorted.size();
  for (size_t k = 0; k < n; ++k) {
    sum += sorted[k] * static_cast<double>(2 * (n - 1 - k) + 1);
  }
  return sum;
}

// Sum over pairs i != j, per draw j and relative to the weight of i.
double AcceptanceOf(double pair_sum, double w_sum, double n) {
  return (pair_sum - w_sum) / (w_sum * (n - 1));
}

}  // namespace

void WeightSums::Add(double log_w) {
  if (!Usable(log_w)) {
    ++non_finite_;
    return;
  }
  ++draws_;
  if (log_w == -kInfinity) return;
  if (sum_w_ == 0) {
    log_w_max_ = log_w;
  } else if (log_w > log_w_max_) {
    const double scale = std::exp(log_w_max_ - log_w);
    sum_w_ *= scale;
    sum_w2_ *= scale * scale;
    log_w_max_ = log_w;
  }
  const double w = std::exp(log_w - log_w_max_);
  sum_w_ += w;
  sum_w2_ += w * w;
}

WeightSums WeightSums::FromParts(const Parts& parts) {
  WeightSums sums;
  sums.draws_ = parts.draws;
  sums.non_finite_ = parts.non_finite;
  sums.log_w_max_ = parts.log_w_max;
  sums.sum_w_ = parts.sum_w;
  sums.sum_w2_ = parts.sum_w2;
  return sums;
}

void WeightSums::Merge(const WeightSums& other) {
  draws_ += other.draws_;
  non_finite_ += other.non_finite_;
  if (other.sum_w_ == 0) return;
  if (sum_w_ == 0) log_w_max_ = other.log_w_max_;
  const double log_w_max = std::max(log_w_max_, other.log_w_max_);
  const double mine = std::exp(log_w_max_ - log_w_max);
  const double theirs = std::exp(other.log_w_max_ - log_w_max);
  sum_w_ = sum_w_ * mine + other.sum_w_ * theirs;
  sum_w2_ = sum_w2_ * mine * mine + other.sum_w2_ * theirs * theirs;
  log_w_max_ = log_w_max;
}

double WeightSums::Ess() const {
  return EssOf({static_cast<double>(draws_), sum_w_, sum_w2_});
}

Estimate Ess(absl::Span<const double> log_w) {
  return Jackknife(
      RelativeWeights(log_w).w,
      [](double w) {
        return Sums{1, w, w * w};
      },
      EssOf);
}

Estimate Acceptance(absl::Span<const double> log_w) {
  const Weights weights = RelativeWeights(log_w);
  const int64_t n = weights.size();
  if (n < 2) return {0, kInfinity};
  std::vector<double> sorted = weights.w;
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> below(n + 1, 0.0);  // below[k]: sum of the k smallest
  for (int64_t k = 0; k < n; ++k) below[k + 1] = below[k] + sorted[k];
  const double w_sum = below[n];
  if (w_sum == 0) return {0, kInfinity};
  const double pair_sum = PairSum(sorted);

  // Without block b the pair sum loses its rows and columns, and their overlap
  // once only.
  const int64_t blocks = JackknifeBlocks(n);
  std::vector<std::vector<double>> members(blocks);
  std::vector<double> rows(blocks, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    const double w = weights.w[i];
    const int64_t b = JackknifeBlock(i, n);
    const int64_t rank =
        std::lower_bound(sorted.begin(), sorted.end(), w) - sorted.begin();
    rows[b] += below[rank] + w * static_cast<double>(n - rank);
    members[b].push_back(w);
  }
  std::vector<double> leave_one_out;
  for (int64_t b = 0; b < blocks; ++b) {
    std::vector<double>& block = members[b];
    std::sort(block.begin(), block.end());
    double w_block = 0;
    for (const double w : block) w_block += w;
    const int64_t left = n - static_cast<int64_t>(block.size());
    if (left < 2 || w_sum <= w_block) continue;
    leave_one_out.push_back(
        AcceptanceOf(pair_sum - 2 * rows[b] + PairSum(block), w_sum - w_block,
                     static_cast<double>(left)));
  }
  return {AcceptanceOf(pair_sum, w_sum, static_cast<double>(n)),
          JackknifeError(leave_one_out)};
}

Estimate LogWeightVariance(absl::Span<const double> log_w) {
  std::vector<double> values;
  double mean = 0;
  for (const double value : log_w) {
    if (!Usable(value)) continue;
    if (value == -kInfinity) return {kInfinity, kInfinity};
    values.push_back(value);
    mean += value;
  }
  if (values.size() < 2) return {0, kInfinity};
  mean /= static_cast<double>(values.size());
  // Relative to the mean, so that the squares do not cancel.
  return Jackknife(
      values,
      [mean](double value) {
        const double d = value - mean;
        return Sums{1, d, d * d};
      },
      [](const Sums& s) {
        return s.n < 2 ? 0 : (s.b - s.a * s.a / s.n) / (s.n - 1);
      });
}

Estimate LogZ(absl::Span<const double> log_w) {
  const Weights weights = RelativeWeights(log_w);
  if (weights.w.empty()) return {-kInfinity, kInfinity};
  return Jackknife(
      weights.w,
      [](double w) {
        return Sums{1, w, 0};
      },
      [&](const Sums& s) { return weights.log_w_max + std::log(s.a / s.n); });
}

}  // namespace latticed
