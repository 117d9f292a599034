#include "core/stats/binned_series.h"

#include <cmath>

#include "core/stats/autocorrelation.h"
#include "gtest/gtest.h"
#include "tests/support/noise.h"

namespace latticed {
namespace {

// x' = rho x + sqrt(1 - rho^2) noise: tau_int = (1 + rho) / (2 (1 - rho)).
std::vector<double> Correlated(size_t n, double rho) {
  std::vector<double> series = NormalNoise("binned", n);
  for (size_t i = 1; i < n; ++i) {
    series[i] = rho * series[i - 1] + std::sqrt(1 - rho * rho) * series[i];
  }
  return series;
}

BinnedSeries SeriesOf(const std::vector<double>& values, double shift = 0) {
  BinnedSeries series;
  for (const double value : values) series.Add(value + shift);
  return series;
}

TEST(BinnedSeries, AShortOneIsTheGammaMethod) {
  const std::vector<double> values = Correlated(4000, 0.8);
  const Autocorrelation gamma = GammaMethod(values);
  // But for the bias correction of Gamma(0), of order 1/n.
  EXPECT_NEAR(SeriesOf(values).TauInt().value, gamma.tau_int,
              0.005 * gamma.tau_int);
}

// rho = 0.9: tau_int = 9.5. 2^20 elements are 2048..4096 bins of 256 or 512,
// many times tau_int: the error of the bins' mean is uncertain by
// 1 / sqrt(2 * 2048) = 1.6 % and tau_int by 3 % or, with a window of one or two
// bins, 5 %.
TEST(BinnedSeries, ALongOneKeepsTauInt) {
  const BinnedSeries series = SeriesOf(Correlated(size_t{1} << 20, 0.9), 1e6);
  const Estimate tau = series.TauInt();
  EXPECT_NEAR(tau.value, 9.5, 5 * 0.05 * 9.5);
  EXPECT_NEAR(tau.value, 9.5, 5 * tau.error);
  EXPECT_LT(tau.error, 1);
  EXPECT_EQ(series.size(), size_t{1} << 20);
}

TEST(BinnedSeries, IndependentIsOneHalf) {
  const Estimate tau = SeriesOf(NormalNoise("independent", 100000)).TauInt();
  EXPECT_NEAR(tau.value, 0.5, 5 * tau.error);
  EXPECT_LT(tau.error, 0.05);
}

TEST(BinnedSeries, LittleOrConstantDataSaySo) {
  EXPECT_EQ(BinnedSeries().TauInt().value, 0.5);
  EXPECT_TRUE(std::isinf(SeriesOf({3}).TauInt().error));
  EXPECT_EQ(SeriesOf(std::vector<double>(9000, 1e9)).TauInt().value, 0.5);
  EXPECT_EQ(SeriesOf(std::vector<double>(9000, 1e9)).TauInt().error, 0);
}

}  // namespace
}  // namespace latticed
