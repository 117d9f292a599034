#include "trainer/loss_bound.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/support/noise.h"

namespace latticed {
namespace {

constexpr double kLogZ = 43.75;
constexpr size_t kDraws = 6400;

// log w normal with variance s^2 and mean log Z - s^2 / 2 + excess: exp of it
// has the mean Z at excess 0.
Window NormalWindow(const std::string& name, double s, double excess) {
  Window window;
  for (const double x : NormalNoise(name, kDraws)) {
    window.Add(kLogZ - s * s / 2 + excess + s * x);
  }
  return window;
}

// A loss that falls as it should, from ESS e^{-1} = 0.37 to 0.9999.
TEST(LossBound, HoldsForTheWholeOfATraining) {
  LossBound bound;
  for (int i = 0; i < 400; ++i) {
    const double s = std::pow(10.0, -i / 200.0);
    EXPECT_FALSE(
        bound.BrokenBy(NormalWindow("falls " + std::to_string(i), s, 0)))
        << i;
  }
  // The least error of these windows is 0.01 / sqrt(6400).
  EXPECT_NEAR(bound.log_z(), kLogZ, 5 * 0.01 / 80);
}

TEST(LossBound, IsBrokenByALossBelowIt) {
  LossBound bound;
  EXPECT_FALSE(bound.BrokenBy(NormalWindow("first", 0.1, 0)));
  EXPECT_FALSE(bound.BrokenBy(NormalWindow("at it", 0.1, 0.005)));
  // Standard errors: 0.1 / 80 of this mean and 0.1 / 80 of log Z, 0.0018
  // together.
  EXPECT_FALSE(bound.BrokenBy(NormalWindow("noise", 0.1, 0.005 + 0.003)));
  EXPECT_TRUE(bound.BrokenBy(NormalWindow("below", 0.1, 0.005 + 0.02)));
  // What broke it teaches nothing about log Z.
  EXPECT_TRUE(bound.BrokenBy(NormalWindow("still", 0.01, 0.02)));
  EXPECT_NEAR(bound.log_z(), kLogZ, 5 * 0.1 / 80);
}

TEST(LossBound, KnowsNothingFromPoorWindows) {
  LossBound bound;
  // ESS e^{-4}: the mean of w is that of a few draws.
  EXPECT_FALSE(bound.BrokenBy(NormalWindow("poor", 2, 0)));
  EXPECT_FALSE(bound.BrokenBy(NormalWindow("better", 0.1, 0)));
  EXPECT_NEAR(bound.log_z(), kLogZ, 5 * 0.1 / 80);
  EXPECT_FALSE(bound.BrokenBy(Window()));
}

}  // namespace
}  // namespace latticed
