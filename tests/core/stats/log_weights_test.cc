#include "core/stats/log_weights.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/stats/jackknife.h"
#include "gtest/gtest.h"
#include "tests/support/noise.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using Estimator = std::function<Estimate(absl::Span<const double>)>;

// sigma^2 = 0.25, mean 1000: E[w] = exp(1000 + sigma^2/2).
constexpr double kSigma = 0.5;
std::vector<double> GaussianLogWeights(const std::string& name, size_t n) {
  std::vector<double> log_w = NormalNoise(name, n);
  for (double& value : log_w) value = 1000 + kSigma * value;
  return log_w;
}

double Exact(const std::string& what) {
  if (what == "ESS") return std::exp(-kSigma * kSigma);
  if (what == "acceptance") return std::erfc(kSigma / 2);
  if (what == "variance") return kSigma * kSigma;
  return 1000 + kSigma * kSigma / 2;  // log Z
}

const std::vector<std::pair<std::string, Estimator>>& Estimators() {
  static const std::vector<std::pair<std::string, Estimator>> estimators = {
      {"ESS", Ess},
      {"acceptance", Acceptance},
      {"variance", LogWeightVariance},
      {"log Z", LogZ}};
  return estimators;
}

// The jackknife error is itself known to 1/sqrt(2 * 63) = 9 %: six of its
// units leave room for that.
TEST(LogWeights, GaussianWeightsHaveTheirExactStatistics) {
  const std::vector<double> log_w = GaussianLogWeights("exact", 1 << 17);
  for (const auto& [name, estimator] : Estimators()) {
    const Estimate estimate = estimator(log_w);
    EXPECT_THAT(estimate.value,
                IsWithinErrors(Exact(name), estimate.error, 6.0))
        << name;
    // Relative to values of order one: 131072 draws give a few permille.
    EXPECT_LT(estimate.error, 5e-3) << name;
  }
}

// The scatter of 200 estimates is known to 5 %, and so is the mean of their
// errors (9 % / sqrt(200) more): 25 % is five standard deviations.
TEST(LogWeights, ErrorsAreTheScatterOfRepeatedRuns) {
  constexpr int kRuns = 200;
  for (const auto& [name, estimator] : Estimators()) {
    double sum = 0;
    double squares = 0;
    double variance = 0;
    for (int run = 0; run < kRuns; ++run) {
      const Estimate estimate =
          estimator(GaussianLogWeights("run " + std::to_string(run), 4096));
      const double d = estimate.value - Exact(name);
      sum += d / kRuns;
      squares += d * d / kRuns;
      variance += estimate.error * estimate.error / kRuns;
    }
    const double scatter = std::sqrt(squares - sum * sum);
    EXPECT_NEAR(std::sqrt(variance) / scatter, 1, 0.25) << name;
  }
}

TEST(LogWeights, OnlyDifferencesMatter) {
  std::vector<double> log_w = GaussianLogWeights("shift", 1000);
  std::vector<double> shifted = log_w;
  for (double& value : shifted) value -= 1e5;
  for (const auto& [name, estimator] : Estimators()) {
    const Estimate a = estimator(log_w);
    const Estimate b = estimator(shifted);
    EXPECT_NEAR(a.value, b.value + (name == "log Z" ? 1e5 : 0), 1e-9) << name;
    EXPECT_NEAR(a.error, b.error, 1e-9) << name;
  }
}

TEST(LogWeights, NonFiniteWeightsAreLeftOut) {
  const std::vector<double> log_w = GaussianLogWeights("holes", 640);
  std::vector<double> holes;
  for (const double value : log_w) {
    holes.insert(holes.end(), {std::nan(""), value, kInfinity});
  }
  for (const auto& [name, estimator] : Estimators()) {
    EXPECT_EQ(estimator(holes).value, estimator(log_w).value) << name;
    EXPECT_EQ(estimator(holes).error, estimator(log_w).error) << name;
  }
}

TEST(LogWeights, EqualWeightsAreThePerfectFlow) {
  const std::vector<double> log_w(100, -3.5);
  EXPECT_DOUBLE_EQ(Ess(log_w).value, 1);
  EXPECT_NEAR(Acceptance(log_w).value, 1, 1e-12);
  EXPECT_DOUBLE_EQ(LogWeightVariance(log_w).value, 0);
  EXPECT_DOUBLE_EQ(LogZ(log_w).value, -3.5);
  for (const auto& [name, estimator] : Estimators()) {
    EXPECT_NEAR(estimator(log_w).error, 0, 1e-12) << name;
  }
}

// (2.25 + 0.25 + 0.25 + 2.25) / 3.
TEST(LogWeights, VarianceIsTheUnbiasedOne) {
  EXPECT_NEAR(LogWeightVariance({1, 2, 3, 4}).value, 5.0 / 3, 1e-14);
}

TEST(LogWeights, ErrorsOfTooFewDrawsAreInfinite) {
  const std::vector<double> none;
  const std::vector<double> one = {2};
  for (const auto& [name, estimator] : Estimators()) {
    EXPECT_EQ(estimator(none).error, kInfinity) << name;
    EXPECT_EQ(estimator(one).error, kInfinity) << name;
    EXPECT_FALSE(std::isnan(estimator(none).value)) << name;
    EXPECT_FALSE(std::isnan(estimator(one).value)) << name;
  }
  EXPECT_DOUBLE_EQ(LogZ(one).value, 2);
}

TEST(LogWeights, WeightsZeroCount) {
  const std::vector<double> log_w = {-kInfinity, 0, -kInfinity, 0};
  EXPECT_DOUBLE_EQ(Ess(log_w).value, 0.5);
  EXPECT_DOUBLE_EQ(LogZ(log_w).value, std::log(0.5));
  EXPECT_EQ(LogWeightVariance(log_w).value, kInfinity);
  // Of the 12 ordered pairs the two of weight one meet in two.
  EXPECT_DOUBLE_EQ(Acceptance(log_w).value, 2.0 / (2 * 3));
  const std::vector<double> nothing(5, -kInfinity);
  EXPECT_EQ(Acceptance(nothing).value, 0);
  EXPECT_EQ(Ess(nothing).value, 0);
}

// sum_{i != j} min(w_i, w_j) / ((n - 1) sum_i w_i) by two loops, over all draws
// but those of block `without`.
double PlainAcceptance(const std::vector<double>& log_w, int64_t without) {
  const int64_t n = static_cast<int64_t>(log_w.size());
  double pairs = 0;
  double sum = 0;
  double count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (JackknifeBlock(i, n) == without) continue;
    const double w = std::exp(log_w[i] - 1000);
    sum += w;
    count += 1;
    for (int64_t j = 0; j < n; ++j) {
      if (j == i || JackknifeBlock(j, n) == without) continue;
      pairs += std::min(w, std::exp(log_w[j] - 1000));
    }
  }
  return pairs / (sum * (count - 1));
}

TEST(Acceptance, IsTheDoubleSumWithItsJackknifeError) {
  std::vector<double> log_w = GaussianLogWeights("pairs", 150);
  log_w[3] = log_w[77] = log_w[78];  // ties
  std::vector<double> leave_one_out;
  for (int64_t b = 0; b < 64; ++b) {
    leave_one_out.push_back(PlainAcceptance(log_w, b));
  }
  const Estimate estimate = Acceptance(log_w);
  EXPECT_NEAR(estimate.value, PlainAcceptance(log_w, -1), 1e-12);
  EXPECT_NEAR(estimate.error, JackknifeError(leave_one_out), 1e-12);
}

}  // namespace
}  // namespace latticed
