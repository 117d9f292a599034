#include "core/random/box_muller.h"

#include <cmath>
#include <numbers>
#include <vector>

#include "gtest/gtest.h"

namespace latticed {
namespace {

// Both ends of the range, the places where the reductions switch, and a walk
// through the rest in steps of the golden ratio.
std::vector<uint32_t> Words() {
  std::vector<uint32_t> words;
  for (uint32_t i = 0; i < 20000; ++i) {
    for (const uint32_t edge :
         {0u, 0x20000000u, 0x40000000u, 0x60000000u, 0x80000000u, 0xA0000000u,
          0xB504F333u, 0xC0000000u, 0xE0000000u}) {
      words.push_back(edge + i - 10000);
    }
    words.push_back(i * 2654435769u);
  }
  return words;
}

TEST(BoxMuller, RadiusIsThatOfTheFormula) {
  for (const uint32_t w : Words()) {
    const long double u = (w + 1.0L) / 4294967296.0L;
    const long double exact = std::sqrt(-2 * std::log(u));
    EXPECT_NEAR(BoxMullerRadius(w), static_cast<double>(exact),
                static_cast<double>(5e-16L * exact))
        << w;
  }
  EXPECT_EQ(BoxMullerRadius(0xffffffff), 0);
}

TEST(BoxMuller, AngleIsThatOfTheFormula) {
  const long double turn = 2 * std::numbers::pi_v<long double> / 4294967296.0L;
  for (const uint32_t w : Words()) {
    const SineCosine a = BoxMullerAngle(w);
    EXPECT_NEAR(a.sine, static_cast<double>(std::sin(turn * w)), 3e-16) << w;
    EXPECT_NEAR(a.cosine, static_cast<double>(std::cos(turn * w)), 3e-16) << w;
  }
}

TEST(BoxMuller, QuarterTurnsAreExact) {
  const double sine[] = {0, 1, 0, -1};
  const double cosine[] = {1, 0, -1, 0};
  for (uint32_t q = 0; q < 4; ++q) {
    const SineCosine a = BoxMullerAngle(q << 30);
    EXPECT_EQ(a.sine, sine[q]);
    EXPECT_EQ(a.cosine, cosine[q]);
  }
}

}  // namespace
}  // namespace latticed
