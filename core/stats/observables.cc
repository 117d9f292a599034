#include "core/stats/observables.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "core/stats/autocorrelation.h"
#include "core/stats/jackknife.h"

namespace latticed {
namespace {

// The quantities that are averaged; Gt(0..L_1/2) follows after these.
enum Primary { kM2, kAbsM, kM4, kPhi2, kLink, kFMin, kAction, kGt };

int64_t Primaries(int64_t l1) { return kGt + l1 / 2 + 1; }

double ValueOf(const Measurement& x, int64_t primary) {
  switch (primary) {
    case kM2:
      return x.m * x.m;
    case kAbsM:
      return std::abs(x.m);
    case kM4:
      return x.m * x.m * x.m * x.m;
    case kPhi2:
      return x.phi2;
    case kLink:
      return x.link;
    case kFMin:
      return x.f_min;
    case kAction:
      return x.action;
    default:
      return x.gt[primary - kGt];
  }
}

std::vector<std::string> Names(int64_t l1) {
  std::vector<std::string> names = {"chi_2",  "abs_M",       "binder_U",
                                    "phi2",   "link_energy", "action_per_site",
                                    "xi_2nd", "m_p_L",       "xi"};
  for (int64_t t = 1; t <= l1 / 2; ++t) {
    names.push_back(absl::StrCat("m_eff_", t));
  }
  for (int64_t t = 0; t <= l1 / 2; ++t) names.push_back(absl::StrCat("Gt_", t));
  return names;
}

// The observables of given means, in the order of Names.
std::vector<double> Observables(absl::Span<const double> mean, int64_t l0,
                                int64_t l1) {
  const double length = static_cast<double>(l1);
  const double chi_2 = static_cast<double>(l0 * l1) * mean[kM2];
  const absl::Span<const double> gt = mean.subspan(kGt);
  const auto gt_at = [&](int64_t t) { return gt[std::min(t, l1 - t)]; };
  std::vector<double> m_eff;
  double sum = 0;
  int64_t finite = 0;
  for (int64_t t = 1; t < l1; ++t) {
    const double value =
        std::acosh((gt_at(t - 1) + gt_at(t + 1)) / (2 * gt_at(t)));
    if (t <= l1 / 2) m_eff.push_back(value);
    if (!std::isfinite(value)) continue;
    sum += value;
    ++finite;
  }
  const double m_p_l =
      finite > 0 ? length * sum / static_cast<double>(finite) : std::nan("");
  std::vector<double> values = {chi_2,
                                mean[kAbsM],
                                1 - mean[kM4] / (3 * mean[kM2] * mean[kM2]),
                                mean[kPhi2],
                                mean[kLink],
                                mean[kAction],
                                std::sqrt(chi_2 / mean[kFMin] - 1) /
                                    (2 * std::sin(std::numbers::pi / length)),
                                m_p_l,
                                length / m_p_l};
  values.insert(values.end(), m_eff.begin(), m_eff.end());
  values.insert(values.end(), gt.begin(), gt.end());
  return values;
}

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

std::map<std::string, Estimate> Named(int64_t l1,
                                      const std::vector<Estimate>& estimates) {
  const std::vector<std::string> names = Names(l1);
  std::map<std::string, Estimate> named;
  for (size_t k = 0; k < names.size(); ++k) named[names[k]] = estimates[k];
  return named;
}

// Weighted sums of the primaries, the weight itself last.
using Sums = std::vector<double>;

std::vector<double> MeansWithout(const Sums& total, const Sums* block) {
  std::vector<double> mean(total.size() - 1);
  const double w = total.back() - (block != nullptr ? block->back() : 0);
  for (size_t p = 0; p < mean.size(); ++p) {
    mean[p] = (total[p] - (block != nullptr ? (*block)[p] : 0)) / w;
  }
  return mean;
}

// Means and standard deviations of the primaries over a chain.
struct Moments {
  std::vector<double> mean;
  std::vector<double> deviation;
};

Moments MomentsOf(absl::Span<const Measurement> measurements, int64_t l1) {
  const int64_t primaries = Primaries(l1);
  const double n = static_cast<double>(measurements.size());
  Moments moments{std::vector<double>(primaries, 0.0),
                  std::vector<double>(primaries, 0.0)};
  for (const Measurement& x : measurements) {
    for (int64_t p = 0; p < primaries; ++p) {
      moments.mean[p] += ValueOf(x, p) / n;
    }
  }
  for (const Measurement& x : measurements) {
    for (int64_t p = 0; p < primaries; ++p) {
      const double d = ValueOf(x, p) - moments.mean[p];
      moments.deviation[p] += d * d / n;
    }
  }
  for (double& deviation : moments.deviation) deviation = std::sqrt(deviation);
  return moments;
}

}  // namespace

std::map<std::string, Estimate> EstimateIndependent(
    absl::Span<const Measurement> measurements, absl::Span<const double> log_w,
    int64_t l0, int64_t l1) {
  const std::vector<double> w = RelativeWeights(log_w, measurements.size());
  const int64_t used = static_cast<int64_t>(std::count_if(
      w.begin(), w.end(), [](double value) { return !std::isnan(value); }));
  const int64_t primaries = Primaries(l1);
  std::vector<Sums> blocks(JackknifeBlocks(used), Sums(primaries + 1, 0.0));
  int64_t position = 0;
  for (size_t i = 0; i < measurements.size(); ++i) {
    if (std::isnan(w[i])) continue;
    Sums& block = blocks[JackknifeBlock(position++, used)];
    for (int64_t p = 0; p < primaries; ++p) {
      block[p] += w[i] * ValueOf(measurements[i], p);
    }
    block[primaries] += w[i];
  }
  Sums total(primaries + 1, 0.0);
  for (const Sums& block : blocks) {
    for (int64_t p = 0; p <= primaries; ++p) total[p] += block[p];
  }
  if (!(total[primaries] > 0)) return {};

  const std::vector<double> values =
      Observables(MeansWithout(total, nullptr), l0, l1);
  std::vector<std::vector<double>> leave_one_out;
  for (const Sums& block : blocks) {
    leave_one_out.push_back(Observables(MeansWithout(total, &block), l0, l1));
  }
  std::vector<Estimate> estimates;
  std::vector<double> thetas(blocks.size());
  for (size_t k = 0; k < values.size(); ++k) {
    for (size_t b = 0; b < blocks.size(); ++b) thetas[b] = leave_one_out[b][k];
    estimates.push_back({values[k], JackknifeError(thetas)});
  }
  return Named(l1, estimates);
}

std::map<std::string, Estimate> EstimateChain(
    absl::Span<const Measurement> measurements, int64_t l0, int64_t l1) {
  if (measurements.empty()) return {};
  const int64_t n = static_cast<int64_t>(measurements.size());
  const int64_t primaries = Primaries(l1);
  const Moments moments = MomentsOf(measurements, l1);
  const std::vector<double> values = Observables(moments.mean, l0, l1);

  // Derivatives of every observable by every primary, from steps as long as
  // the means' own statistical fluctuations (hep-lat/0306017 section 4).
  std::vector<std::vector<double>> slopes;  // [primary][observable]
  for (int64_t p = 0; p < primaries; ++p) {
    const double step =
        moments.deviation[p] / std::sqrt(static_cast<double>(n));
    std::vector<double> slope(values.size(), 0.0);
    if (step > 0) {
      std::vector<double> at = moments.mean;
      at[p] = moments.mean[p] + step;
      const std::vector<double> above = Observables(at, l0, l1);
      at[p] = moments.mean[p] - step;
      const std::vector<double> below = Observables(at, l0, l1);
      for (size_t k = 0; k < values.size(); ++k) {
        slope[k] = (above[k] - below[k]) / (2 * step);
      }
    }
    slopes.push_back(slope);
  }
  std::vector<Estimate> estimates;
  std::vector<double> projected(n);
  for (size_t k = 0; k < values.size(); ++k) {
    std::fill(projected.begin(), projected.end(), 0.0);
    for (int64_t p = 0; p < primaries; ++p) {
      const double slope = slopes[p][k];
      if (slope == 0) continue;
      for (int64_t i = 0; i < n; ++i) {
        projected[i] += slope * (ValueOf(measurements[i], p) - moments.mean[p]);
      }
    }
    estimates.push_back({values[k], GammaMethod(projected).error});
  }
  return Named(l1, estimates);
}

}  // namespace latticed
