#include "core/theory/phi4.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/fields.h"

namespace latticed {
namespace {

constexpr Phi4Couplings kCouplings{.mass_squared = -4, .lambda = 5.276};

// Widths on both sides of what is summed in lanes.
const std::vector<Lattice>& Lattices() {
  static const std::vector<Lattice> lattices = {{2, 2},  {2, 3},  {3, 2},
                                                {6, 6},  {8, 8},  {5, 9},
                                                {9, 17}, {4, 16}, {12, 20}};
  return lattices;
}

// The formula in the header, site by site.
double Literal(const Lattice& lattice, const std::vector<double>& phi) {
  double s = 0;
  for (int64_t x0 = 0; x0 < lattice.l0; ++x0) {
    for (int64_t x1 = 0; x1 < lattice.l1; ++x1) {
      const double here = phi[x0 * lattice.l1 + x1];
      const double down = phi[(x0 + 1) % lattice.l0 * lattice.l1 + x1];
      const double right = phi[x0 * lattice.l1 + (x1 + 1) % lattice.l1];
      s += std::pow(down - here, 2) + std::pow(right - here, 2) +
           kCouplings.mass_squared * here * here +
           kCouplings.lambda * std::pow(here, 4);
    }
  }
  return s;
}

TEST(Phi4, EvaluateIsTheFormula) {
  for (const Lattice& lattice : Lattices()) {
    const std::vector<double> phi = NoiseField(lattice, 1);
    const double s = Literal(lattice, phi);
    EXPECT_NEAR(Phi4(lattice, kCouplings).Evaluate(phi), s, 1e-12 * std::abs(s))
        << lattice.Name();
  }
}

// A constant field: no gradient term.
TEST(Phi4, ConstantFieldHasTheSitesPotential) {
  const Lattice lattice{8, 12};
  const std::vector<double> phi(lattice.Sites(), 0.5);
  EXPECT_NEAR(Phi4(lattice, kCouplings).Evaluate(phi),
              96 * (-4 * 0.25 + 5.276 * 0.0625), 1e-12);
}

// phi = +-1 in turn: every link contributes 4, (khat^2 = 8 per site).
TEST(Phi4, CheckerboardHasTheLargestGradient) {
  const Lattice lattice{4, 6};
  std::vector<double> phi(lattice.Sites());
  for (int64_t x = 0; x < lattice.Sites(); ++x) {
    phi[x] = (x / 6 + x % 6) % 2 == 0 ? 1 : -1;
  }
  EXPECT_NEAR(Phi4(lattice, {.mass_squared = 0.25, .lambda = 0}).Evaluate(phi),
              24 * 8.25, 1e-12);
}

TEST(Phi4, FloatFieldsGiveTheActionOfTheirExactValues) {
  for (const Lattice& lattice : Lattices()) {
    const std::vector<double> phi = NoiseField(lattice, 2);
    const std::vector<float> rounded(phi.begin(), phi.end());
    const std::vector<double> exact(rounded.begin(), rounded.end());
    const Phi4 action(lattice, kCouplings);
    EXPECT_EQ(action.Evaluate(absl::MakeConstSpan(rounded)),
              action.Evaluate(absl::MakeConstSpan(exact)));
  }
}

TEST(Phi4, GradientIsTheDerivative) {
  for (const Lattice& lattice : Lattices()) {
    const Phi4 action(lattice, kCouplings);
    std::vector<double> phi = NoiseField(lattice, 3);
    std::vector<double> gradient(lattice.Sites());
    action.Gradient(phi, absl::MakeSpan(gradient));
    for (int64_t x = 0; x < lattice.Sites(); ++x) {
      // S is a quartic in phi_x: the five-point formula is exact but for
      // rounding.
      constexpr double kStep = 1e-2;
      const double here = phi[x];
      const auto at = [&](double shift) {
        phi[x] = here + shift;
        return action.Evaluate(phi);
      };
      const double derivative =
          (8 * (at(kStep) - at(-kStep)) - (at(2 * kStep) - at(-2 * kStep))) /
          (12 * kStep);
      phi[x] = here;
      EXPECT_NEAR(gradient[x], derivative, 1e-9 * (1 + std::abs(derivative)))
          << lattice.Name() << " site " << x;
    }
  }
}

TEST(Phi4, IsInvariantUnderTranslationsReflectionAndSign) {
  for (const Lattice& lattice : Lattices()) {
    const Phi4 action(lattice, kCouplings);
    const std::vector<double> phi = NoiseField(lattice, 4);
    const double s = action.Evaluate(phi);
    const double tolerance = 1e-12 * std::abs(s);
    EXPECT_NEAR(action.Evaluate(Translated(lattice, phi, 1, 0)), s, tolerance);
    EXPECT_NEAR(action.Evaluate(Translated(lattice, phi, 0, 1)), s, tolerance);
    // Reversed: (x_0, x_1) -> (-x_0, -x_1).
    const std::vector<double> reversed(phi.rbegin(), phi.rend());
    EXPECT_NEAR(action.Evaluate(reversed), s, tolerance);
    std::vector<double> minus = phi;
    for (double& value : minus) value = -value;
    EXPECT_EQ(action.Evaluate(minus), s);
  }
}

TEST(Phi4, IsInvariantUnderExchangeOfTheAxes) {
  const Lattice lattice{5, 9};
  const Lattice turned{9, 5};
  const std::vector<double> phi = NoiseField(lattice, 5);
  std::vector<double> other(phi.size());
  for (int64_t x0 = 0; x0 < 5; ++x0) {
    for (int64_t x1 = 0; x1 < 9; ++x1) other[x1 * 5 + x0] = phi[x0 * 9 + x1];
  }
  EXPECT_NEAR(Phi4(lattice, kCouplings).Evaluate(phi),
              Phi4(turned, kCouplings).Evaluate(other), 1e-10);
}

TEST(Phi4, NonFiniteFieldsHaveANonFiniteAction) {
  const Lattice lattice{4, 4};
  std::vector<double> phi = NoiseField(lattice, 6);
  phi[5] = std::nan("");
  EXPECT_TRUE(std::isnan(Phi4(lattice, kCouplings).Evaluate(phi)));
}

TEST(Phi4, NameSaysTheTheory) {
  EXPECT_EQ(Phi4({6, 6}, {.mass_squared = -4, .lambda = 6.975}).Name(),
            "phi4 m2=-4 lambda=6.975 on 6x6");
}

TEST(Phi4DeathTest, FieldOfAnotherSizeAborts) {
  const Phi4 action({4, 4}, kCouplings);
  const std::vector<double> phi(15);
  std::vector<double> gradient(16);
  EXPECT_DEATH(action.Evaluate(phi), "16 values, not 15");
  EXPECT_DEATH(action.Gradient(phi, absl::MakeSpan(gradient)), "not 15");
}

}  // namespace
}  // namespace latticed
