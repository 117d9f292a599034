#include <cmath>
#include <limits>
#include <vector>

#include "core/stats/log_weights.h"
#include "gtest/gtest.h"
#include "tests/support/noise.h"

namespace latticed {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

WeightSums SumsOf(const std::vector<double>& log_w) {
  WeightSums sums;
  for (const double value : log_w) sums.Add(value);
  return sums;
}

TEST(WeightSums, StartEmpty) {
  const WeightSums sums;
  EXPECT_EQ(sums.draws(), 0u);
  EXPECT_EQ(sums.Ess(), 0);
}

TEST(WeightSums, EqualWeightsHaveEssOne) {
  EXPECT_DOUBLE_EQ(SumsOf(std::vector<double>(7, -1e5)).Ess(), 1);
}

TEST(WeightSums, OneHeavyWeightAmongNHasEssOneOverN) {
  EXPECT_DOUBLE_EQ(SumsOf({0, -1e4, -1e4, -1e4}).Ess(), 0.25);
  EXPECT_DOUBLE_EQ(SumsOf({-1e4, -1e4, 0, -1e4}).Ess(), 0.25);
}

// w = 1, 2, 3: (6)^2 / (3 * 14).
TEST(WeightSums, AreTheSumsRelativeToTheLargest) {
  const WeightSums sums =
      SumsOf({std::log(2.0) + 800, 800, std::log(3.0) + 800});
  EXPECT_DOUBLE_EQ(sums.log_w_max(), std::log(3.0) + 800);
  EXPECT_NEAR(sums.sum_w(), 2, 1e-12);
  EXPECT_NEAR(sums.sum_w2(), 14.0 / 9, 1e-12);
  EXPECT_NEAR(sums.Ess(), 36.0 / 42, 1e-12);
}

TEST(WeightSums, CountNonFiniteWeightsApart) {
  const WeightSums sums = SumsOf({0, std::nan(""), kInfinity, 0});
  EXPECT_EQ(sums.draws(), 2u);
  EXPECT_EQ(sums.non_finite(), 2u);
  EXPECT_DOUBLE_EQ(sums.Ess(), 1);
}

TEST(WeightSums, MinusInfinityIsADrawOfWeightZero) {
  const WeightSums sums = SumsOf({-kInfinity, 3, -kInfinity, 3});
  EXPECT_EQ(sums.draws(), 4u);
  EXPECT_EQ(sums.non_finite(), 0u);
  EXPECT_DOUBLE_EQ(sums.log_w_max(), 3);
  EXPECT_DOUBLE_EQ(sums.Ess(), 0.5);
  EXPECT_EQ(SumsOf({-kInfinity}).Ess(), 0);
}

TEST(WeightSums, MergeIsTheSumOfTheUnion) {
  const std::vector<double> log_w = NormalNoise("merge", 1000);
  const WeightSums whole = SumsOf(log_w);
  for (const size_t split : {0, 1, 500, 999, 1000}) {
    WeightSums left = SumsOf({log_w.begin(), log_w.begin() + split});
    const WeightSums right = SumsOf({log_w.begin() + split, log_w.end()});
    left.Merge(right);
    EXPECT_EQ(left.draws(), 1000u);
    EXPECT_EQ(left.log_w_max(), whole.log_w_max());
    EXPECT_NEAR(left.sum_w(), whole.sum_w(), 1e-12 * whole.sum_w());
    EXPECT_NEAR(left.sum_w2(), whole.sum_w2(), 1e-12 * whole.sum_w2());
  }
}

TEST(WeightSums, MergeKeepsCountsOfEmptyAndWeightlessShards) {
  WeightSums sums = SumsOf({-kInfinity, std::nan("")});
  sums.Merge(SumsOf({5}));
  sums.Merge(WeightSums());
  EXPECT_EQ(sums.draws(), 2u);
  EXPECT_EQ(sums.non_finite(), 1u);
  EXPECT_DOUBLE_EQ(sums.log_w_max(), 5);
  EXPECT_DOUBLE_EQ(sums.Ess(), 0.5);
}

}  // namespace
}  // namespace latticed
