#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

#include "core/random/box_muller.h"
#include "core/random/stream.h"
#include "gtest/gtest.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

std::vector<float> Draw(const StreamId& stream, uint64_t index, size_t count) {
  std::vector<float> normals(count);
  Normals(stream, index, Purpose::kBaseDraw, absl::MakeSpan(normals));
  return normals;
}

// Recorded from the header's formula in Python.
TEST(Normals, HaveTheRecordedValues) {
  const std::vector<float> expected = {
      0x1.9ea2f2p-1,  0x1.d4be3cp-9, 0x1.21f584p-3,  0x1.ac7a3ap-5,
      -0x1.2c9016p+1, 0x1.37b39cp-3, -0x1.40fc26p-1, -0x1.d762fap-2};
  EXPECT_EQ(Draw(NamedStream("demo"), 0x123456789a, 8), expected);
}

// The library's functions are within an ulp or so of double, which moves the
// rounding to float once in 2^28 or so.
TEST(Normals, FollowTheFormulaInTheHeader) {
  const StreamId stream = NamedStream("formula");
  for (uint64_t index = 0; index < 20; ++index) {
    const std::vector<float> normals = Draw(stream, index, 1024);
    for (uint32_t i = 0; i < 1024; i += 2) {
      const auto w = RandomBlock(stream, index, Purpose::kBaseDraw, i / 4);
      const double u = (w[i % 4] + 1.0) / 4294967296.0;
      const double a = 2 * std::numbers::pi * w[i % 4 + 1] / 4294967296.0;
      const double r = std::sqrt(-2 * std::log(u));
      EXPECT_FLOAT_EQ(normals[i], static_cast<float>(r * std::cos(a)));
      EXPECT_FLOAT_EQ(normals[i + 1], static_cast<float>(r * std::sin(a)));
    }
  }
}

// The same arithmetic, one deviate at a time in plain x86-64 code.
TEST(Normals, AreTheSameBitsWithAndWithoutWideVectors) {
  const StreamId stream = NamedStream("bits");
  for (uint64_t index = 0; index < 100; ++index) {
    const std::vector<float> normals = Draw(stream, index, 1024);
    for (uint32_t i = 0; i < 1024; i += 2) {
      const auto w = RandomBlock(stream, index, Purpose::kBaseDraw, i / 4);
      const double r = BoxMullerRadius(w[i % 4]);
      const SineCosine a = BoxMullerAngle(w[i % 4 + 1]);
      ASSERT_EQ(normals[i], static_cast<float>(r * a.cosine));
      ASSERT_EQ(normals[i + 1], static_cast<float>(r * a.sine));
    }
  }
}

TEST(Normals, DoNotDependOnHowManyAreAskedFor) {
  const StreamId stream = NamedStream("prefix");
  const std::vector<float> all = Draw(stream, 3, 1000);
  for (const size_t count : {0, 1, 2, 3, 36, 127, 128, 129, 999}) {
    EXPECT_EQ(Draw(stream, 3, count),
              std::vector<float>(all.begin(), all.begin() + count));
  }
}

// n = 2^20 deviates; the variances of x, x^2, x^3, x^4 are 1, 2, 15, 96, those
// of products of independent x and y and of x^2 - 1 and y^2 - 1 are 1 and 4.
TEST(Normals, HaveTheMomentsOfIndependentNormals) {
  constexpr size_t kSites = 1024;
  constexpr size_t kDraws = 1024;
  constexpr double kCount = kSites * kDraws;
  const StreamId stream = NamedStream("moments");
  double moment[5] = {};
  double neighbours = 0;
  double squares = 0;
  double draws = 0;
  std::vector<float> last;
  for (size_t index = 0; index < kDraws; ++index) {
    const std::vector<float> x = Draw(stream, index, kSites);
    for (size_t i = 0; i < kSites; ++i) {
      const double y = x[(i + 1) % kSites];
      double power = 1;
      for (int k = 1; k <= 4; ++k) moment[k] += (power *= x[i]) / kCount;
      neighbours += x[i] * y / kCount;
      squares += (x[i] * x[i] - 1.0) * (y * y - 1) / kCount;
      if (index > 0) draws += x[i] * last[i] / kCount;
    }
    last = x;
  }
  EXPECT_THAT(moment[1], IsWithinErrors(0, std::sqrt(1 / kCount)));
  EXPECT_THAT(moment[2], IsWithinErrors(1, std::sqrt(2 / kCount)));
  EXPECT_THAT(moment[3], IsWithinErrors(0, std::sqrt(15 / kCount)));
  EXPECT_THAT(moment[4], IsWithinErrors(3, std::sqrt(96 / kCount)));
  EXPECT_THAT(neighbours, IsWithinErrors(0, std::sqrt(1 / kCount)));
  EXPECT_THAT(squares, IsWithinErrors(0, std::sqrt(4 / kCount)));
  EXPECT_THAT(draws, IsWithinErrors(0, std::sqrt(1 / kCount)));
}

// P(|x| > 3) = 0.0026998.
TEST(Normals, HaveTheTailsOfTheNormalDistribution) {
  constexpr double kTail = 0.002699796063;
  constexpr double kCount = 1 << 20;
  const std::vector<float> x = Draw(NamedStream("tails"), 0, 1 << 20);
  double beyond = 0;
  for (const float value : x) beyond += std::abs(value) > 3 ? 1 : 0;
  EXPECT_THAT(beyond / kCount,
              IsWithinErrors(kTail, std::sqrt(kTail * (1 - kTail) / kCount)));
}

}  // namespace
}  // namespace latticed
