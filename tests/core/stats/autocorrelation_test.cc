#include "core/stats/autocorrelation.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/noise.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

// x_{i+1} = a x_i + sqrt(1 - a^2) noise: variance 1, Gamma(t) = a^|t|,
// tau_int = (1 + a) / (2 (1 - a)), variance of the mean 2 tau_int / n.
std::vector<double> AutoRegressive(const std::string& name, double a,
                                   size_t n) {
  std::vector<double> x = NormalNoise(name, n);
  const double b = std::sqrt(1 - a * a);
  for (size_t i = 1; i < n; ++i) x[i] = a * x[i - 1] + b * x[i];
  return x;
}

double TauInt(double a) { return (1 + a) / (2 * (1 - a)); }

// Truncating the sum at the window loses exp(-W / tau) of it, of the order of
// its statistical error by the choice of the window: six standard deviations.
TEST(GammaMethod, FindsTheAutocorrelationOfAnAutoregressiveProcess) {
  constexpr size_t kLength = 400000;
  for (const double a : {0.0, 0.5, 0.8, 0.95}) {
    const Autocorrelation result =
        GammaMethod(AutoRegressive("ar", a, kLength));
    EXPECT_THAT(result.tau_int,
                IsWithinErrors(TauInt(a), result.tau_int_error, 6.0))
        << a;
    EXPECT_LT(result.tau_int_error, 0.05 * TauInt(a)) << a;
    const double exact_error = std::sqrt(2 * TauInt(a) / kLength);
    EXPECT_THAT(result.error,
                IsWithinErrors(exact_error, result.error_of_error, 6.0))
        << a;
    EXPECT_THAT(result.mean, IsWithinErrors(0, exact_error)) << a;
  }
}

// 300 means: their scatter is known to 4 %, so 20 % is five standard
// deviations.
TEST(GammaMethod, ErrorIsTheScatterOfRepeatedChains) {
  constexpr int kRuns = 300;
  double squares = 0;
  double variance = 0;
  for (int run = 0; run < kRuns; ++run) {
    const Autocorrelation result =
        GammaMethod(AutoRegressive("chain " + std::to_string(run), 0.8, 3000));
    squares += result.mean * result.mean / kRuns;
    variance += result.error * result.error / kRuns;
  }
  EXPECT_NEAR(std::sqrt(variance / squares), 1, 0.2);
}

TEST(GammaMethod, AntiCorrelationMakesTheErrorSmaller) {
  constexpr size_t kLength = 400000;
  const Autocorrelation result =
      GammaMethod(AutoRegressive("anti", -0.5, kLength));
  EXPECT_THAT(result.tau_int,
              IsWithinErrors(TauInt(-0.5), result.tau_int_error, 6.0));
  EXPECT_LT(result.error, std::sqrt(0.5 / kLength));
}

// Repeating every value k times multiplies the variance of the mean by k, less
// one part in k for the discreteness: tau_int = k / 2.
TEST(GammaMethod, SeesRepeatedValues) {
  const std::vector<double> x = NormalNoise("repeat", 50000);
  std::vector<double> repeated;
  for (const double value : x) repeated.insert(repeated.end(), 4, value);
  const Autocorrelation result = GammaMethod(repeated);
  EXPECT_THAT(result.tau_int, IsWithinErrors(2, result.tau_int_error, 6.0));
}

TEST(GammaMethod, ConstantSeriesHasNoError) {
  const Autocorrelation result = GammaMethod(std::vector<double>(100, 0.1));
  EXPECT_EQ(result.mean, 0.1);
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.tau_int, 0.5);
}

TEST(GammaMethod, DoesNotCareAboutTheOrigin) {
  std::vector<double> x = AutoRegressive("origin", 0.6, 10000);
  const Autocorrelation before = GammaMethod(x);
  for (double& value : x) value = 1e6 + value;
  const Autocorrelation after = GammaMethod(x);
  EXPECT_NEAR(after.mean, 1e6 + before.mean, 1e-8);
  EXPECT_NEAR(after.tau_int, before.tau_int, 1e-6);
  EXPECT_NEAR(after.error, before.error, 1e-8);
}

TEST(GammaMethod, SeriesTooShortForAnErrorSaysSo) {
  EXPECT_EQ(GammaMethod({}).error, std::numeric_limits<double>::infinity());
  EXPECT_EQ(GammaMethod({3.0}).mean, 3);
  EXPECT_EQ(GammaMethod({3.0}).error, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isfinite(GammaMethod({3.0, 4.0}).error));
  EXPECT_GT(GammaMethod({3.0, 4.0}).error, 0);
}

TEST(GammaMethod, StrictlyAlternatingSeriesIsTakenAsIndependent) {
  std::vector<double> x(1000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = i % 2 == 0 ? 1 : -1;
  const Autocorrelation result = GammaMethod(x);
  EXPECT_GT(result.error, 0);
  EXPECT_LE(result.tau_int, 0.51);
}

// A ramp never decorrelates: the window runs into its end and says so.
TEST(GammaMethod, SeriesThatNeverDecorrelatesFillsTheWindow) {
  std::vector<double> x(200);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i);
  EXPECT_GE(GammaMethod(x).tau_int, 20);
}

TEST(GammaMethod, NonFiniteValuesGiveANonFiniteError) {
  const Autocorrelation result = GammaMethod({1, std::nan(""), 2, 3});
  EXPECT_TRUE(std::isnan(result.error));
}

}  // namespace
}  // namespace latticed
