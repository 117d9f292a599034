#include "core/wire/block.h"

#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/wire/crc32c.h"
#include "gtest/gtest.h"

namespace latticed {
namespace {

constexpr BlockContent kAll;

TEST(Block, BytesAreCoercedIntoTheAllowedRange) {
  EXPECT_EQ(CoerceBlockBytes(0), 1048576);
  EXPECT_EQ(CoerceBlockBytes(1), 65536);
  EXPECT_EQ(CoerceBlockBytes(100000), 100000);
  EXPECT_EQ(CoerceBlockBytes(int64_t{1} << 40), 2097152);
}

TEST(Block, ConfigurationsFillABlockWithoutOverflowingIt) {
  for (const int64_t sites : {4, 36, 64, 1024, 4096}) {
    const int64_t each = BytesPerConfiguration(sites, kAll);
    EXPECT_EQ(each, 4 * sites + 16);
    const int64_t n = ConfigurationsPerBlock(sites, kAll, kBlockBytesMin);
    EXPECT_LE(n * each, kBlockBytesMin);
    EXPECT_GT((n + 1) * each, kBlockBytesMin);
  }
}

// 256 x 256 sites: 256 KiB a configuration, more than the smallest block.
TEST(Block, HoldsAtLeastOneConfiguration) {
  EXPECT_EQ(ConfigurationsPerBlock(65536, kAll, kBlockBytesMin), 1);
}

TEST(Block, CountsOnlyWhatIsAskedFor) {
  EXPECT_EQ(BytesPerConfiguration(64, {.phi = false}), 16);
  EXPECT_EQ(
      BytesPerConfiguration(64, {.phi = true, .log_q = false, .action = false}),
      256);
  EXPECT_EQ(
      ConfigurationsPerBlock(64, {.phi = false, .log_q = true, .action = false},
                             kBlockBytesMin),
      8192);
}

TEST(Block, ChecksumRunsOverLogQThenActionThenPhi) {
  EXPECT_EQ(BlockCrc32c("123", "456", "789"), Crc32c("123456789"));
  EXPECT_EQ(BlockCrc32c("", "", ""), 0u);
}

TEST(Block, NumbersAreLittleEndianIeee754) {
  const std::vector<double> value = {1.0};
  EXPECT_EQ(BytesOf(absl::MakeConstSpan(value)),
            absl::string_view("\0\0\0\0\0\0\xf0\x3f", 8));
  const std::vector<float> single = {-2.0f};
  EXPECT_EQ(BytesOf(absl::MakeConstSpan(single)),
            absl::string_view("\0\0\0\xc0", 4));
}

TEST(Block, NumbersComeBackBitForBit) {
  const std::vector<float> values = {
      0.f, -0.f, 1e-42f, std::numeric_limits<float>::infinity(), 3.25f};
  const std::string shifted =
      absl::StrCat("x", BytesOf(absl::MakeConstSpan(values)));
  std::vector<float> back(values.size());
  // At an odd address: payloads in a message are not aligned.
  ASSERT_TRUE(
      FromBytes(absl::string_view(shifted).substr(1), absl::MakeSpan(back)));
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(back[i], values[i]);
    EXPECT_EQ(std::signbit(back[i]), std::signbit(values[i]));
  }
}

TEST(Block, RefusesPayloadsOfAnotherLength) {
  std::vector<double> out = {7, 7};
  EXPECT_FALSE(FromBytes(std::string(15, 'x'), absl::MakeSpan(out)));
  EXPECT_FALSE(FromBytes(std::string(24, 'x'), absl::MakeSpan(out)));
  EXPECT_EQ(out, (std::vector<double>{7, 7}));
  EXPECT_TRUE(FromBytes("", absl::Span<double>()));
}

}  // namespace
}  // namespace latticed
