#include "core/random/stream.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kIndex = 0x123456789a;

// Recorded from an independent implementation of the layout (Python's hashlib
// and integers): a change here changes every draw ever named.
TEST(NamedStream, HasTheRecordedIds) {
  EXPECT_EQ(NamedStream("").Hex(), "04cbc8cceab57149e08f2a81");
  EXPECT_EQ(NamedStream("demo").Hex(), "66f6a0d0a2b8e217e5b922a1");
  EXPECT_EQ(NamedStream("latticed").Hex(), "b94a557248433d4c5ecfcfdc");
}

TEST(NamedStream, SetsTheTopBit) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(NamedStream(std::to_string(i)).high >> 31, 1u);
  }
}

TEST(StreamId, ComesBackFromItsBytes) {
  const StreamId id{.low = 0x0807060504030201, .high = 0x0c0b0a09};
  EXPECT_EQ(id.Bytes(), "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c");
  EXPECT_EQ(id.Hex(), "0102030405060708090a0b0c");
  EXPECT_EQ(StreamId::FromBytes(id.Bytes()), id);
}

TEST(StreamIdDeathTest, OfAnotherLengthAborts) {
  EXPECT_DEATH(StreamId::FromBytes("short"), "12 bytes, not 5");
}

// A repetition among 10^5 has probability 1e-19.
TEST(FreshStream, NeverRepeatsAndClearsTheTopBit) {
  std::set<std::string> seen;
  for (int i = 0; i < 100000; ++i) {
    const StreamId id = FreshStream();
    EXPECT_EQ(id.high >> 31, 0u);
    EXPECT_TRUE(seen.insert(id.Bytes()).second);
  }
}

TEST(FreshStream, DiffersAfterAFork) {
  FreshStream();
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const std::string bytes = FreshStream().Bytes();
    const bool written = write(pipe_ends[1], bytes.data(), 12) == 12;
    _exit(written ? 0 : 1);
  }
  const StreamId mine = FreshStream();
  std::string theirs(12, '\0');
  ASSERT_EQ(read(pipe_ends[0], theirs.data(), 12), 12);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  EXPECT_NE(StreamId::FromBytes(theirs), mine);
}

// Recorded like the named ids.
TEST(RandomBlock, HasTheFrozenLayout) {
  const StreamId stream = NamedStream("demo");
  EXPECT_THAT(RandomBlock(stream, kIndex, Purpose::kBaseDraw, 3),
              ElementsAre(0xf459e04d, 0xb6bd6bc3, 0xb60fd9eb, 0xbd627ae0));
  EXPECT_THAT(RandomBlock(stream, kIndex, Purpose::kAccept, 3),
              ElementsAre(0xb265a841, 0xbffc5059, 0xb3df1734, 0xf294c85b));
}

TEST(RandomBlock, DependsOnEveryArgument) {
  const StreamId stream{.low = 5, .high = 7};
  std::set<std::array<uint32_t, 4>> seen;
  for (int bit = 0; bit < 64; ++bit) {
    const uint64_t one = uint64_t{1} << bit;
    StreamId other = stream;
    other.low ^= one;
    EXPECT_TRUE(
        seen.insert(RandomBlock(other, 0, Purpose::kBaseDraw, 0)).second);
    EXPECT_TRUE(
        seen.insert(RandomBlock(stream, one, Purpose::kBaseDraw, 0)).second);
    if (bit < 32) {
      other = stream;
      other.high ^= static_cast<uint32_t>(one);
      EXPECT_TRUE(
          seen.insert(RandomBlock(other, 0, Purpose::kBaseDraw, 0)).second);
    }
    if (bit < 24) {
      EXPECT_TRUE(seen.insert(RandomBlock(stream, 0, Purpose::kBaseDraw,
                                          static_cast<uint32_t>(one)))
                      .second);
    }
  }
  for (const Purpose purpose : {Purpose::kAccept, Purpose::kGate,
                                Purpose::kAudit, Purpose::kChainUpdate}) {
    EXPECT_TRUE(seen.insert(RandomBlock(stream, 0, purpose, 0)).second);
  }
}

TEST(RandomWords, AreTheBlocksInOrder) {
  const StreamId stream = NamedStream("demo");
  constexpr uint32_t kFirst = 1000;
  std::vector<uint32_t> words(4 * 67);
  RandomWords(stream, kIndex, Purpose::kAudit, kFirst, absl::MakeSpan(words));
  for (uint32_t b = 0; b < 67; ++b) {
    EXPECT_THAT(RandomBlock(stream, kIndex, Purpose::kAudit, kFirst + b),
                ElementsAre(words[4 * b], words[4 * b + 1], words[4 * b + 2],
                            words[4 * b + 3]));
  }
}

TEST(RandomWordsDeathTest, BeyondTheLastBlockAborts) {
  std::vector<uint32_t> words(8);
  RandomWords({}, 0, Purpose::kBaseDraw, (1 << 24) - 2, absl::MakeSpan(words));
  EXPECT_DEATH(RandomWords({}, 0, Purpose::kBaseDraw, (1 << 24) - 1,
                           absl::MakeSpan(words)),
               "there are 2\\^24");
}

TEST(Uniform, HasTheFrozenLayout) {
  EXPECT_EQ(Uniform(NamedStream("demo"), kIndex, Purpose::kAccept),
            0x1.03d9d2bea4b20p-3);
}

// Var(u) = 1/12, Var(u^2) = 1/5 - 1/9 = 4/45.
TEST(Uniform, HasTheMomentsOfAUniformNumber) {
  constexpr int kCount = 200000;
  const StreamId stream = NamedStream("moments");
  double mean = 0;
  double square = 0;
  for (int i = 0; i < kCount; ++i) {
    const double u = Uniform(stream, i, Purpose::kAccept);
    ASSERT_GT(u, 0);
    ASSERT_LE(u, 1);
    mean += u / kCount;
    square += u * u / kCount;
  }
  EXPECT_THAT(mean, IsWithinErrors(0.5, std::sqrt(1.0 / 12 / kCount)));
  EXPECT_THAT(square, IsWithinErrors(1.0 / 3, std::sqrt(4.0 / 45 / kCount)));
}

}  // namespace
}  // namespace latticed
