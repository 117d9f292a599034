#include "core/theory/lattice.h"

#include "gtest/gtest.h"

namespace latticed {
namespace {

TEST(Lattice, KnowsItsShape) {
  const Lattice rectangle{.l0 = 4, .l1 = 6};
  EXPECT_EQ(rectangle.Sites(), 24);
  EXPECT_FALSE(rectangle.Square());
  EXPECT_EQ(rectangle.Name(), "4x6");
  EXPECT_TRUE((Lattice{8, 8}).Square());
}

TEST(KhatSquared, HasItsKnownValues) {
  const Lattice square{8, 8};
  EXPECT_DOUBLE_EQ(KhatSquared(square, 0, 0), 0);
  EXPECT_DOUBLE_EQ(KhatSquared(square, 4, 0), 4);
  EXPECT_DOUBLE_EQ(KhatSquared(square, 4, 4), 8);
  EXPECT_DOUBLE_EQ(KhatSquared(square, 2, 0), 2);
  // 4 sin^2(pi/6) = 1 on the short axis, 4 sin^2(pi/4) = 2 on the other.
  EXPECT_NEAR(KhatSquared({6, 8}, 1, 2), 3, 1e-15);
}

TEST(KhatSquared, IsEvenAndPeriodicInTheMomentum) {
  const Lattice lattice{5, 6};
  for (int64_t k0 = 0; k0 < 5; ++k0) {
    for (int64_t k1 = 0; k1 < 6; ++k1) {
      const double value = KhatSquared(lattice, k0, k1);
      EXPECT_NEAR(KhatSquared(lattice, 5 - k0, 6 - k1), value, 1e-14);
      EXPECT_NEAR(KhatSquared(lattice, k0 + 5, k1 - 6), value, 1e-14);
    }
  }
}

}  // namespace
}  // namespace latticed
