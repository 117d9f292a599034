#include "core/stats/observables.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "core/stats/jackknife.h"
#include "core/stats/observable_sums.h"
#include "core/stats/primaries.h"
#include "core/stats/series.h"

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
  return NamedEstimates(
      l1, EstimateSeries(static_cast<int64_t>(measurements.size()), l0, l1,
                         [&](int64_t i, int64_t p) {
                           return PrimaryOf(measurements[i], p);
                         }));
}

}  // namespace latticed
