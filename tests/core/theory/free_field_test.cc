// The oracle against linear algebra: S = sum_xy phi_x A_xy phi_y, with A read
// off Phi4's gradient, has log Z = (V/2) log pi - (1/2) log det A and
// <phi phi> = A^-1 / 2.
#include "core/theory/free_field.h"

#include <cmath>
#include <numbers>
#include <vector>

#include "core/theory/phi4.h"
#include "gtest/gtest.h"

namespace latticed {
namespace {

using Matrix = std::vector<std::vector<double>>;

Matrix QuadraticForm(const Lattice& lattice, double mass_squared) {
  const Phi4 action(lattice, {.mass_squared = mass_squared, .lambda = 0});
  const int64_t sites = lattice.Sites();
  Matrix a(sites, std::vector<double>(sites));
  for (int64_t x = 0; x < sites; ++x) {
    std::vector<double> unit(sites, 0.0);
    unit[x] = 1;
    action.Gradient(unit, absl::MakeSpan(a[x]));
    for (double& value : a[x]) value /= 2;
  }
  return a;
}

// Gauss elimination; A is positive, so it needs no pivots.
double LogDeterminant(Matrix a) {
  double log_determinant = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    log_determinant += std::log(a[k][k]);
    for (size_t i = k + 1; i < a.size(); ++i) {
      const double factor = a[i][k] / a[k][k];
      for (size_t j = k; j < a.size(); ++j) a[i][j] -= factor * a[k][j];
    }
  }
  return log_determinant;
}

const std::vector<Lattice>& Lattices() {
  static const std::vector<Lattice> lattices = {
      {2, 2}, {2, 3}, {4, 3}, {5, 5}, {6, 8}};
  return lattices;
}

TEST(FreeFieldLogZ, IsTheGaussianIntegral) {
  for (const Lattice& lattice : Lattices()) {
    for (const double mass_squared : {0.1, 1.0, 7.5}) {
      const double expected =
          0.5 * static_cast<double>(lattice.Sites()) *
              std::log(std::numbers::pi) -
          0.5 * LogDeterminant(QuadraticForm(lattice, mass_squared));
      EXPECT_NEAR(FreeFieldLogZ(lattice, mass_squared), expected, 1e-11)
          << lattice.Name();
    }
  }
}

TEST(FreeFieldPropagator, InvertsTwiceTheQuadraticForm) {
  for (const Lattice& lattice : Lattices()) {
    const double mass_squared = 0.3;
    const Matrix a = QuadraticForm(lattice, mass_squared);
    const std::vector<double> g = FreeFieldPropagator(lattice, mass_squared);
    ASSERT_EQ(g.size(), static_cast<size_t>(lattice.Sites()));
    // sum_y A_{0 y} 2 G(y - r) = delta_{0 r}
    for (int64_t r0 = 0; r0 < lattice.l0; ++r0) {
      for (int64_t r1 = 0; r1 < lattice.l1; ++r1) {
        double sum = 0;
        for (int64_t y0 = 0; y0 < lattice.l0; ++y0) {
          for (int64_t y1 = 0; y1 < lattice.l1; ++y1) {
            const int64_t d0 = (y0 - r0 + lattice.l0) % lattice.l0;
            const int64_t d1 = (y1 - r1 + lattice.l1) % lattice.l1;
            sum += a[0][y0 * lattice.l1 + y1] * 2 * g[d0 * lattice.l1 + d1];
          }
        }
        EXPECT_NEAR(sum, r0 == 0 && r1 == 0 ? 1 : 0, 1e-12) << lattice.Name();
      }
    }
  }
}

// sum_r G(r) is the zero mode, 1 / (2 m^2).
TEST(FreeFieldPropagator, SumsToTheSusceptibility) {
  double sum = 0;
  for (const double g : FreeFieldPropagator({32, 32}, 0.25)) sum += g;
  EXPECT_NEAR(sum, 2, 1e-11);
}

// d(-log Z)/dm^2 = <sum_x phi_x^2> = V G(0).
TEST(FreeField, LogZGivesTheFieldsSize) {
  const Lattice lattice{6, 10};
  constexpr double kStep = 1e-4;
  const double derivative = (FreeFieldLogZ(lattice, 0.5 - kStep) -
                             FreeFieldLogZ(lattice, 0.5 + kStep)) /
                            (2 * kStep);
  EXPECT_NEAR(derivative, 60 * FreeFieldPropagator(lattice, 0.5)[0], 1e-5);
}

}  // namespace
}  // namespace latticed
