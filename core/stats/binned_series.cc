#include "core/stats/binned_series.h"

#include <limits>

#include "core/stats/autocorrelation.h"

namespace latticed {

void BinnedSeries::Add(double value) {
  if (size_++ == 0) origin_ = value;
  const double d = value - origin_;
  sum_ += d;
  squares_ += d * d;
  open_ += d;
  if (++open_size_ < bin_size_) return;
  bins_.push_back(open_);
  open_ = 0;
  open_size_ = 0;
  if (bins_.size() < kBinsMax) return;
  for (size_t i = 0; i < kBinsMax / 2; ++i) {
    bins_[i] = bins_[2 * i] + bins_[2 * i + 1];
  }
  bins_.resize(kBinsMax / 2);
  bin_size_ *= 2;
}

Estimate BinnedSeries::TauInt() const {
  if (bins_.size() < 2) {
    return {0.5, std::numeric_limits<double>::infinity()};
  }
  const double n = static_cast<double>(size_);
  const double variance = squares_ / n - (sum_ / n) * (sum_ / n);
  if (!(variance > 0)) return {0.5, 0};
  std::vector<double> means;
  means.reserve(bins_.size());
  const double bin = static_cast<double>(bin_size_);
  for (const double sum : bins_) means.push_back(sum / bin);
  const Autocorrelation gamma = GammaMethod(means);
  const double used = static_cast<double>(bins_.size()) * bin;
  const double tau = gamma.error * gamma.error * used / (2 * variance);
  if (gamma.error == 0) return {0.5, 0};
  return {tau, 2 * tau * gamma.error_of_error / gamma.error};
}

}  // namespace latticed
