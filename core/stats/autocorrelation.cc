#include "core/stats/autocorrelation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace latticed {
namespace {

// Gamma(t) = 1/(n - t) sum_i d_i d_{i+t}, eq. 31 for one replica. Four partial
// sums break the chain of dependent additions.
double GammaAt(const std::vector<double>& d, int64_t t) {
  const int64_t n = static_cast<int64_t>(d.size()) - t;
  double sum[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int64_t j = 0; j < 4; ++j) sum[j] += d[i + j] * d[i + j + t];
  }
  for (; i < n; ++i) sum[0] += d[i] * d[i + t];
  return (sum[0] + sum[1] + sum[2] + sum[3]) / static_cast<double>(n);
}

// Whether the window closes at w, eqs. 50-52. Those take tau_int <= 1/2 for no
// correlation at all and would cut a series that alternates after one term;
// there the decay of |Gamma| from 0 to 1 stands in.
bool WindowCloses(double tau_int, double rho_1, double s_parameter, int64_t w,
                  double n) {
  const double decay = tau_int > 0.5
                           ? std::log((2 * tau_int + 1) / (2 * tau_int - 1))
                           : -std::log(std::min(std::abs(rho_1), 1.0));
  const double tau = s_parameter / std::max(decay, 1e-9);
  const double window = static_cast<double>(w);
  return std::exp(-window / tau) - tau / std::sqrt(window * n) <= 0;
}

}  // namespace

Autocorrelation GammaMethod(absl::Span<const double> series,
                            double s_parameter) {
  Autocorrelation result;
  const int64_t size = static_cast<int64_t>(series.size());
  const double n = static_cast<double>(size);
  if (size < 2) {
    result.mean = size == 1 ? series[0] : 0;
    result.error = std::numeric_limits<double>::infinity();
    return result;
  }
  // Relative to the first value: exact for a constant series.
  const double origin = series[0];
  double offset = 0;
  for (const double value : series) offset += value - origin;
  offset /= n;
  result.mean = origin + offset;
  std::vector<double> d(size);
  for (int64_t i = 0; i < size; ++i) d[i] = (series[i] - origin) - offset;

  std::vector<double> gamma = {GammaAt(d, 0)};
  if (gamma[0] == 0) return result;
  if (!std::isfinite(gamma[0])) {
    result.error = std::numeric_limits<double>::quiet_NaN();
    return result;
  }
  double tau_int = 0.5;
  const int64_t window_max = std::min(size / 2, kWindowMax);
  for (int64_t w = 1; w <= window_max; ++w) {
    gamma.push_back(GammaAt(d, w));
    tau_int += gamma[w] / gamma[0];
    result.window = w;
    if (WindowCloses(tau_int, gamma[1] / gamma[0], s_parameter, w, n)) break;
  }
  double c = 2 * tau_int * gamma[0];
  // Strong anticorrelation may leave nothing to sum; independence is the safe
  // side of it.
  if (c <= 0) c = gamma[0];
  // Subtracting the mean of the same data pulls every Gamma(t) down by C/n,
  // eq. 49.
  const double gamma0 = gamma[0] + c / n;
  c += (2 * static_cast<double>(result.window) + 1) * c / n;

  const double window = static_cast<double>(result.window);
  result.tau_int = c / (2 * gamma0);
  result.error = std::sqrt(c / n);
  result.error_of_error = result.error * std::sqrt((window + 0.5) / n);
  result.tau_int_error =
      result.tau_int * 2 *
      std::sqrt(std::max(0.0, window - result.tau_int + 0.5) / n);
  return result;
}

}  // namespace latticed
