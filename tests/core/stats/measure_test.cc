#include <cmath>
#include <numbers>
#include <vector>

#include "core/stats/observables.h"
#include "gtest/gtest.h"
#include "tests/support/fields.h"

namespace latticed {
namespace {

std::vector<float> ToFloat(const std::vector<double>& phi) {
  return {phi.begin(), phi.end()};
}

TEST(Measure, ConstantField) {
  const std::vector<float> phi(6 * 6, 0.5f);
  const Measurement x = Measure(phi, 6, 6, /*action=*/18);
  EXPECT_DOUBLE_EQ(x.m, 0.5);
  EXPECT_DOUBLE_EQ(x.phi2, 0.25);
  EXPECT_DOUBLE_EQ(x.link, 0.25);
  EXPECT_DOUBLE_EQ(x.action, 0.5);
  EXPECT_NEAR(x.f_min, 0, 1e-15);
  ASSERT_EQ(x.gt.size(), 6u);
  // (1/L) sum over the L sites of a slice of 1/4.
  for (const double gt : x.gt) EXPECT_DOUBLE_EQ(gt, 0.25);
}

// phi = a cos(2 pi x_1 / L): the mode |phi_k| = a/2 along axis 1, none along
// axis 0; neighbours along axis 0 are equal.
TEST(Measure, PlaneWave) {
  constexpr int64_t kL = 8;
  constexpr double kA = 0.75;
  std::vector<double> phi(kL * kL);
  for (int64_t x = 0; x < kL * kL; ++x) {
    phi[x] = kA * std::cos(2 * std::numbers::pi * (x % kL) / kL);
  }
  const Measurement x = Measure(ToFloat(phi), kL, kL, 0);
  EXPECT_NEAR(x.m, 0, 1e-8);
  EXPECT_NEAR(x.phi2, kA * kA / 2, 1e-7);
  EXPECT_NEAR(x.link, kA * kA / 4 * (1 + std::cos(2 * std::numbers::pi / kL)),
              1e-7);
  // V |phi_k|^2, averaged over the axes.
  EXPECT_NEAR(x.f_min, 64 * kA * kA / 4 / 2, 1e-6);
  for (int64_t t = 0; t < kL; ++t) {
    EXPECT_NEAR(x.gt[t], kA * kA / 4 * std::cos(2 * std::numbers::pi * t / kL),
                1e-7);
  }
}

// Gt(t) = (1/L) sum_{r} G(r, t), G(r) = (1/V) sum_y phi_y phi_{y+r}, by loops.
std::vector<double> PlainGt(const Lattice& lattice,
                            const std::vector<double>& phi) {
  const double norm = 1.0 / static_cast<double>(lattice.Sites() * lattice.l0);
  std::vector<double> gt(lattice.l1, 0.0);
  for (int64_t r0 = 0; r0 < lattice.l0; ++r0) {
    for (int64_t t = 0; t < lattice.l1; ++t) {
      const std::vector<double> moved = Translated(lattice, phi, r0, t);
      for (size_t y = 0; y < phi.size(); ++y) {
        gt[t] += phi[y] * moved[y] * norm;
      }
    }
  }
  return gt;
}

TEST(Measure, GtOfARectangleIsTheFormulaAlongAxisOne) {
  for (const Lattice& lattice : {Lattice{4, 6}, Lattice{6, 5}, Lattice{3, 2}}) {
    const std::vector<double> phi = NoiseField(lattice, 10);
    const Measurement x = Measure(ToFloat(phi), lattice.l0, lattice.l1, 0);
    const std::vector<double> gt = PlainGt(lattice, phi);
    ASSERT_EQ(x.gt.size(), gt.size());
    for (size_t t = 0; t < gt.size(); ++t) EXPECT_NEAR(x.gt[t], gt[t], 1e-12);
  }
}

TEST(Measure, GtOfASquareIsTheMeanOfBothAxes) {
  for (const int64_t l : {2, 5, 6}) {
    const Lattice lattice{l, l};
    const std::vector<double> phi = NoiseField(lattice, 11);
    std::vector<double> turned(phi.size());
    for (int64_t x = 0; x < l * l; ++x) turned[x % l * l + x / l] = phi[x];
    const std::vector<double> a = PlainGt(lattice, phi);
    const std::vector<double> b = PlainGt(lattice, turned);
    const Measurement x = Measure(ToFloat(phi), l, l, 0);
    const Measurement y = Measure(ToFloat(turned), l, l, 0);
    for (int64_t t = 0; t < l; ++t) {
      EXPECT_NEAR(x.gt[t], (a[t] + b[t]) / 2, 1e-12);
      EXPECT_NEAR(y.gt[t], x.gt[t], 1e-12);
    }
    EXPECT_NEAR(y.f_min, x.f_min, 1e-12);
  }
}

// sum_r G(r) = V M^2 = L_0 sum_t Gt(t), configuration by configuration.
TEST(Measure, GtSumsToTheSusceptibility) {
  for (const Lattice& lattice : {Lattice{4, 6}, Lattice{6, 6}, Lattice{7, 7}}) {
    const Measurement x =
        Measure(ToFloat(NoiseField(lattice, 12)), lattice.l0, lattice.l1, 0);
    double sum = 0;
    for (const double gt : x.gt) sum += gt;
    EXPECT_NEAR(static_cast<double>(lattice.l0) * sum,
                static_cast<double>(lattice.Sites()) * x.m * x.m, 1e-12);
  }
}

// F = L_0 sum_t cos(2 pi t / L) Gt(t): the same mode, two ways.
TEST(Measure, LowestModeIsTheFourierTransformOfGt) {
  for (const Lattice& lattice : {Lattice{4, 6}, Lattice{6, 6}, Lattice{5, 8}}) {
    const Measurement x =
        Measure(ToFloat(NoiseField(lattice, 13)), lattice.l0, lattice.l1, 0);
    double sum = 0;
    for (int64_t t = 0; t < lattice.l1; ++t) {
      sum += std::cos(2 * std::numbers::pi * static_cast<double>(t) /
                      static_cast<double>(lattice.l1)) *
             x.gt[t];
    }
    EXPECT_NEAR(x.f_min, static_cast<double>(lattice.l0) * sum, 1e-12);
  }
}

TEST(Measure, DoesNotSeeTranslations) {
  const Lattice lattice{6, 6};
  const std::vector<double> phi = NoiseField(lattice, 14);
  const Measurement x = Measure(ToFloat(phi), 6, 6, 0);
  const Measurement y =
      Measure(ToFloat(Translated(lattice, phi, 2, 5)), 6, 6, 0);
  EXPECT_NEAR(x.m, y.m, 1e-12);
  EXPECT_NEAR(x.link, y.link, 1e-12);
  EXPECT_NEAR(x.f_min, y.f_min, 1e-12);
  for (size_t t = 0; t < 6; ++t) EXPECT_NEAR(x.gt[t], y.gt[t], 1e-12);
}

TEST(MeasureDeathTest, FieldOfAnotherSizeAborts) {
  const std::vector<float> phi(35);
  EXPECT_DEATH(Measure(phi, 6, 6, 0), "has not 35");
}

}  // namespace
}  // namespace latticed
