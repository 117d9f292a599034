#include "core/wire/crc32c.h"

#include <string>

#include "gtest/gtest.h"

namespace latticed {
namespace {

// RFC 3720 appendix B.4 and the check value of the polynomial.
TEST(Crc32c, HasTheKnownAnswers) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending.push_back(c);
  EXPECT_EQ(Crc32c(ascending), 0x46DD794Eu);
}

TEST(Crc32c, OfNothingIsZero) { EXPECT_EQ(Crc32c(""), 0u); }

TEST(Crc32c, ContinuesOverAnySplit) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) bytes.push_back(static_cast<char>(i * 7));
  const uint32_t whole = Crc32c(bytes);
  const absl::string_view view = bytes;
  for (size_t split = 0; split <= bytes.size(); ++split) {
    EXPECT_EQ(Crc32c(view.substr(split), Crc32c(view.substr(0, split))), whole);
  }
}

TEST(Crc32c, SeesEveryFlippedBit) {
  std::string bytes(40, 'x');
  const uint32_t whole = Crc32c(bytes);
  for (int bit = 0; bit < 320; ++bit) {
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_NE(Crc32c(bytes), whole);
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
}

}  // namespace
}  // namespace latticed
