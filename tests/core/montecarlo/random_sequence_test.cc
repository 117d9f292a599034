#include "core/montecarlo/random_sequence.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

TEST(RandomSequence, ReadsTheStreamsBlocksInOrder) {
  const StreamId stream = NamedStream("sequence");
  RandomSequence random(stream, /*first_index=*/17);
  for (uint32_t block = 0; block < 300; ++block) {
    for (const uint32_t word :
         RandomBlock(stream, 17, Purpose::kChainUpdate, block)) {
      ASSERT_EQ(random.Word(), word);
    }
  }
}

TEST(RandomSequence, GoesOnWithTheNextIndex) {
  const StreamId stream = NamedStream("sequence");
  RandomSequence random(stream, /*first_index=*/17);
  uint32_t last = 0;
  for (uint32_t i = 0; i < uint32_t{1} << 26; ++i) last = random.Word();
  EXPECT_EQ(last,
            RandomBlock(stream, 17, Purpose::kChainUpdate, (1 << 24) - 1)[3]);
  EXPECT_EQ(random.Word(),
            RandomBlock(stream, 18, Purpose::kChainUpdate, 0)[0]);
}

// Variances: 1/12 of u, 1 of x, 2 of x^2.
TEST(RandomSequence, HasTheMomentsOfItsDistributions) {
  constexpr double kCount = 400000;
  RandomSequence random(NamedStream("moments"));
  double uniform = 0;
  for (int i = 0; i < kCount; ++i) {
    const double u = random.Uniform();
    ASSERT_GT(u, 0);
    ASSERT_LE(u, 1);
    uniform += u / kCount;
  }
  std::vector<double> x(static_cast<size_t>(kCount));
  random.Normals(absl::MakeSpan(x));
  double mean = 0;
  double square = 0;
  for (const double value : x) {
    mean += value / kCount;
    square += value * value / kCount;
  }
  EXPECT_THAT(uniform, IsWithinErrors(0.5, std::sqrt(1 / 12.0 / kCount)));
  EXPECT_THAT(mean, IsWithinErrors(0, std::sqrt(1 / kCount)));
  EXPECT_THAT(square, IsWithinErrors(1, std::sqrt(2 / kCount)));
}

TEST(RandomSequence, FillsOddLengths) {
  RandomSequence random(NamedStream("odd"));
  RandomSequence again(NamedStream("odd"));
  std::vector<double> three(3);
  std::vector<double> four(4);
  random.Normals(absl::MakeSpan(three));
  again.Normals(absl::MakeSpan(four));
  EXPECT_EQ(three, std::vector<double>(four.begin(), four.begin() + 3));
  EXPECT_EQ(random.Word(), again.Word());
}

}  // namespace
}  // namespace latticed
