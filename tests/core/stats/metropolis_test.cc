#include "core/stats/metropolis.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/noise.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNaN = std::nan("");

TEST(AcceptReject, FollowsTheRule) {
  // Accepted, since log u equals the difference; refused by 0.1; accepted
  // whatever u, being heavier; then half a unit lighter, refused and accepted.
  const Walk walk =
      AcceptReject(0, {-1, -3, 5, 4.5, 4.5}, {-1, -1.9, 0, -0.4, -0.6});
  EXPECT_THAT(walk.index, ElementsAre(0, 0, 2, 2, 4));
  EXPECT_EQ(walk.accepted, 3);
  EXPECT_EQ(walk.log_w, 4.5);
  EXPECT_EQ(walk.non_finite, 0);
}

TEST(AcceptReject, StaysAtItsStartUntilAProposalIsAccepted) {
  const Walk walk = AcceptReject(10, {-90, -90}, {-1, -1});
  EXPECT_THAT(walk.index, ElementsAre(-1, -1));
  EXPECT_EQ(walk.log_w, 10);
  EXPECT_EQ(walk.accepted, 0);
}

TEST(AcceptReject, StartOfWeightZeroAcceptsTheFirstFiniteProposal) {
  const Walk walk = AcceptReject(-kInfinity, {kNaN, -kInfinity, -1e300, -1e300},
                                 {-50, -50, 0, 0});
  EXPECT_THAT(walk.index, ElementsAre(-1, -1, 2, 3));
  EXPECT_EQ(walk.non_finite, 1);
}

TEST(AcceptReject, NeverAcceptsANonFiniteWeight) {
  const Walk walk =
      AcceptReject(0, {kNaN, kInfinity, -kInfinity, 0}, {-99, -99, -99, -99});
  EXPECT_THAT(walk.index, ElementsAre(-1, -1, -1, 3));
  EXPECT_EQ(walk.accepted, 1);
  EXPECT_EQ(walk.non_finite, 2);
}

TEST(AcceptReject, EqualWeightsAreAlwaysAccepted) {
  const std::vector<double> log_w(100, -1234.5);
  std::vector<double> log_u = UniformNoise("equal", 100);
  for (double& u : log_u) u = std::log(u);
  EXPECT_EQ(AcceptReject(-1234.5, log_w, log_u).accepted, 100);
}

TEST(AcceptReject, ContinuesFromWhereItStopped) {
  std::vector<double> log_w = NormalNoise("continue", 200);
  std::vector<double> log_u = UniformNoise("continue", 200);
  for (double& u : log_u) u = std::log(u);
  const Walk whole = AcceptReject(0.5, log_w, log_u);
  const absl::Span<const double> w = log_w;
  const absl::Span<const double> u = log_u;
  const Walk first = AcceptReject(0.5, w.first(77), u.first(77));
  const Walk second = AcceptReject(first.log_w, w.subspan(77), u.subspan(77));
  EXPECT_EQ(first.accepted + second.accepted, whole.accepted);
  EXPECT_EQ(second.log_w, whole.log_w);
  for (size_t i = 77; i < 200; ++i) {
    const int64_t index = second.index[i - 77];
    EXPECT_EQ(index < 0 ? first.index.back() : index + 77, whole.index[i]);
  }
}

TEST(AcceptReject, OfNothingIsNothing) {
  const Walk walk = AcceptReject(1, {}, {});
  EXPECT_THAT(walk.index, IsEmpty());
  EXPECT_EQ(walk.log_w, 1);
}

TEST(AcceptRejectDeathTest, UnequalLengthsAbort) {
  EXPECT_DEATH(AcceptReject(0, {1, 2}, {0}), "2 proposals with 1");
}

// Two states, proposed equally often, weights 1 and 3: the chain spends 3/4 of
// its time on the heavy one. The chain moves from light to heavy with
// probability 1/2 and back with 1/6, so its second eigenvalue is 1/3, tau_int
// = (1/2) (1 + 1/3) / (1 - 1/3) = 1, and the variance of the mean is
// (3/16) 2 tau_int / n. Accepted: all but a third of the moves to light from
// heavy, 1 - (3/4) (1/2) (2/3) = 3/4; its variance is below 2 (3/16) 2 / n.
TEST(AcceptReject, TwoStateChainHasItsExactEquilibrium) {
  constexpr int kSteps = 400000;
  const std::vector<double> u = UniformNoise("two states", 2 * kSteps);
  std::vector<double> log_w(kSteps);
  std::vector<double> log_u(kSteps);
  for (int i = 0; i < kSteps; ++i) {
    log_w[i] = u[i] <= 0.5 ? 700 : 700 + std::log(3.0);
    log_u[i] = std::log(u[kSteps + i]);
  }
  const Walk walk = AcceptReject(700, log_w, log_u);
  double heavy = 0;
  for (const int64_t index : walk.index) {
    heavy += index >= 0 && log_w[index] > 700 ? 1.0 / kSteps : 0;
  }
  EXPECT_THAT(heavy, IsWithinErrors(0.75, std::sqrt(3.0 / 16 * 2 / kSteps)));
  EXPECT_THAT(static_cast<double>(walk.accepted) / kSteps,
              IsWithinErrors(0.75, std::sqrt(3.0 / 4 / kSteps)));
}

}  // namespace
}  // namespace latticed
