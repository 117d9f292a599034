#include "core/stats/primaries.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "absl/strings/str_cat.h"

namespace latticed {

int64_t PrimaryCount(int64_t l1) { return kGt + l1 / 2 + 1; }

double PrimaryOf(const Measurement& measurement, int64_t primary) {
  const double m = measurement.m;
  switch (primary) {
    case kM2:
      return m * m;
    case kAbsM:
      return std::abs(m);
    case kM4:
      return m * m * m * m;
    case kPhi2:
      return measurement.phi2;
    case kLink:
      return measurement.link;
    case kFMin:
      return measurement.f_min;
    case kAction:
      return measurement.action;
    default:
      return measurement.gt[primary - kGt];
  }
}

std::vector<std::string> ObservableNames(int64_t l1) {
  std::vector<std::string> names = {"chi_2",  "abs_M",       "binder_U",
                                    "phi2",   "link_energy", "action_per_site",
                                    "xi_2nd", "m_p_L",       "xi"};
  for (int64_t t = 1; t <= l1 / 2; ++t) {
    names.push_back(absl::StrCat("m_eff_", t));
  }
  for (int64_t t = 0; t <= l1 / 2; ++t) names.push_back(absl::StrCat("Gt_", t));
  return names;
}

std::vector<double> ObservablesAt(absl::Span<const double> mean, int64_t l0,
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

std::map<std::string, Estimate> NamedEstimates(
    int64_t l1, const std::vector<Estimate>& estimates) {
  const std::vector<std::string> names = ObservableNames(l1);
  std::map<std::string, Estimate> named;
  for (size_t k = 0; k < names.size(); ++k) named[names[k]] = estimates[k];
  return named;
}

}  // namespace latticed
