#include "core/stats/jackknife.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace latticed {
namespace {

TEST(Jackknife, BlocksAreContiguousAndNearlyEqual) {
  for (const int64_t n : {1, 2, 63, 64, 65, 1000, 65536}) {
    const int64_t blocks = JackknifeBlocks(n);
    EXPECT_EQ(blocks, std::min<int64_t>(n, 64));
    std::vector<int64_t> sizes(blocks, 0);
    int64_t last = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t b = JackknifeBlock(i, n);
      EXPECT_GE(b, last);
      last = b;
      ++sizes.at(b);
    }
    for (const int64_t size : sizes) {
      EXPECT_GE(size, n / blocks);
      EXPECT_LE(size, n / blocks + 1);
    }
  }
}

// Of a mean it is the textbook error of the mean, s / sqrt(n).
TEST(Jackknife, ErrorOfAMeanIsTheTextbookOne) {
  const std::vector<double> x = {3, 1, 4, 1, 5, 9, 2, 6};
  double sum = 0;
  double squares = 0;
  for (const double value : x) {
    sum += value;
    squares += value * value;
  }
  std::vector<double> leave_one_out;
  for (const double value : x) leave_one_out.push_back((sum - value) / 7);
  EXPECT_NEAR(JackknifeError(leave_one_out),
              std::sqrt((squares - sum * sum / 8) / 7 / 8), 1e-14);
}

TEST(Jackknife, ErrorOfOneBlockIsUnknown) {
  EXPECT_EQ(JackknifeError({1.0}), std::numeric_limits<double>::infinity());
  EXPECT_EQ(JackknifeError({}), std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace latticed
