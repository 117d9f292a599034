#include "core/stats/observables.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "core/stats/autocorrelation.h"
#include "core/stats/jackknife.h"
#include "core/stats/observable_sums.h"
#include "core/stats/primaries.h"

namespace latticed {
namespace {

// exp(log w - max); NaN for what is left out.
std::vector<double> RelativeWeights(absl::Span<const double> log_w, size_t n) {
  if (log_w.empty()) return std::vector<double>(n, 1.0);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double log_w_max = -kInfinity;
  for (const double value : log_w) {
    if (value < kInfinity) log_w_max = std::max(log_w_max, value);
  }
  std::vector<double> w(n, std::nan(""));
  for (size_t i = 0; i < std::min(n, log_w.size()); ++i) {
    if (log_w[i] < kInfinity) w[i] = std::exp(log_w[i] - log_w_max);
  }
  return w;
}

// Means and standard deviations of the primary quantities over a chain.
struct Moments {
  std::vector<double> mean;
  std::vector<double> deviation;
};

Moments MomentsOf(absl::Span<const Measurement> measurements, int64_t l1) {
  const int64_t primaries = PrimaryCount(l1);
  const double n = static_cast<double>(measurements.size());
  Moments moments{std::vector<double>(primaries, 0.0),
                  std::vector<double>(primaries, 0.0)};
  for (const Measurement& x : measurements) {
    for (int64_t p = 0; p < primaries; ++p) {
      moments.mean[p] += PrimaryOf(x, p) / n;
    }
  }
  for (const Measurement& x : measurements) {
    for (int64_t p = 0; p < primaries; ++p) {
      const double d = PrimaryOf(x, p) - moments.mean[p];
      moments.deviation[p] += d * d / n;
    }
  }
  for (double& deviation : moments.deviation) deviation = std::sqrt(deviation);
  return moments;
}

// Derivative of every observable by primary quantity p, from a step as long as
// the statistical fluctuation of its mean (hep-lat/0306017 section 4).
std::vector<double> Slope(const Moments& moments, int64_t p, double n,
                          int64_t l0, int64_t l1) {
  const double step = moments.deviation[p] / std::sqrt(n);
  std::vector<double> at = moments.mean;
  at[p] = moments.mean[p] + step;
  const std::vector<double> above = ObservablesAt(at, l0, l1);
  at[p] = moments.mean[p] - step;
  const std::vector<double> below = ObservablesAt(at, l0, l1);
  std::vector<double> slope(above.size(), 0.0);
  if (step == 0) return slope;
  for (size_t k = 0; k < slope.size(); ++k) {
    slope[k] = (above[k] - below[k]) / (2 * step);
  }
  return slope;
}

}  // namespace

std::map<std::string, Estimate> EstimateIndependent(
    absl::Span<const Measurement> measurements, absl::Span<const double> log_w,
    int64_t l0, int64_t l1) {
  const std::vector<double> w = RelativeWeights(log_w, measurements.size());
  const int64_t used = static_cast<int64_t>(std::count_if(
      w.begin(), w.end(), [](double value) { return !std::isnan(value); }));
  std::vector<ObservableSums> blocks(JackknifeBlocks(used),
                                     ObservableSums(l0, l1));
  int64_t position = 0;
  for (size_t i = 0; i < measurements.size(); ++i) {
    if (std::isnan(w[i])) continue;
    blocks[JackknifeBlock(position++, used)].Add(measurements[i], w[i]);
  }
  return EstimateBlocks(blocks);
}

std::map<std::string, Estimate> EstimateChain(
    absl::Span<const Measurement> measurements, int64_t l0, int64_t l1) {
  if (measurements.empty()) return {};
  const int64_t n = static_cast<int64_t>(measurements.size());
  const int64_t primaries = PrimaryCount(l1);
  const Moments moments = MomentsOf(measurements, l1);
  std::vector<std::vector<double>> slopes;  // [primary][observable]
  for (int64_t p = 0; p < primaries; ++p) {
    slopes.push_back(Slope(moments, p, static_cast<double>(n), l0, l1));
  }
  const std::vector<double> values = ObservablesAt(moments.mean, l0, l1);
  std::vector<Estimate> estimates;
  std::vector<double> projected(n);
  for (size_t k = 0; k < values.size(); ++k) {
    std::fill(projected.begin(), projected.end(), 0.0);
    for (int64_t p = 0; p < primaries; ++p) {
      const double slope = slopes[p][k];
      if (slope == 0) continue;
      for (int64_t i = 0; i < n; ++i) {
        projected[i] +=
            slope * (PrimaryOf(measurements[i], p) - moments.mean[p]);
      }
    }
    estimates.push_back({values[k], GammaMethod(projected).error});
  }
  return NamedEstimates(l1, estimates);
}

}  // namespace latticed
