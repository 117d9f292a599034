// Observables of a correlated series of primary quantities, Gamma method
// (hep-lat/0306017). For the sources of this folder only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/stats/autocorrelation.h"
#include "core/stats/log_weights.h"
#include "core/stats/primaries.h"

namespace latticed {

// Derivative of every observable by primary quantity p, from a step as long as
// the statistical fluctuation of its mean (hep-lat/0306017 section 4).
inline std::vector<double> Slope(const std::vector<double>& mean, int64_t p,
                                 double step, int64_t l0, int64_t l1) {
  std::vector<double> at = mean;
  at[p] = mean[p] + step;
  const std::vector<double> above = ObservablesAt(at, l0, l1);
  at[p] = mean[p] - step;
  const std::vector<double> below = ObservablesAt(at, l0, l1);
  std::vector<double> slope(above.size(), 0.0);
  if (step == 0) return slope;
  for (size_t k = 0; k < slope.size(); ++k) {
    slope[k] = (above[k] - below[k]) / (2 * step);
  }
  return slope;
}

// In the order of ObservableNames. at(i, p): primary quantity p of element
// i < n.
template <typename At>
std::vector<Estimate> EstimateSeries(int64_t n, int64_t l0, int64_t l1,
                                     const At& at) {
  const int64_t primaries = PrimaryCount(l1);
  const double count = static_cast<double>(n);
  std::vector<double> mean(primaries, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t p = 0; p < primaries; ++p) mean[p] += at(i, p) / count;
  }
  std::vector<double> variance(primaries, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t p = 0; p < primaries; ++p) {
      const double d = at(i, p) - mean[p];
      variance[p] += d * d / count;
    }
  }
  std::vector<std::vector<double>> slopes;  // [primary][observable]
  for (int64_t p = 0; p < primaries; ++p) {
    slopes.push_back(
        Slope(mean, p, std::sqrt(variance[p]) / std::sqrt(count), l0, l1));
  }
  const std::vector<double> values = ObservablesAt(mean, l0, l1);
  std::vector<Estimate> estimates;
  std::vector<double> projected(n);
  for (size_t k = 0; k < values.size(); ++k) {
    std::fill(projected.begin(), projected.end(), 0.0);
    for (int64_t p = 0; p < primaries; ++p) {
      const double slope = slopes[p][k];
      if (slope == 0) continue;
      for (int64_t i = 0; i < n; ++i) {
        projected[i] += slope * (at(i, p) - mean[p]);
      }
    }
    estimates.push_back({values[k], GammaMethod(projected).error});
  }
  return estimates;
}

}  // namespace latticed
