// The six published conventions of phi^4, each computed literally from its
// formula on the scaled field s phi and compared with our action: they agree up
// to a constant.
#include <cmath>
#include <functional>
#include <vector>

#include "core/theory/phi4.h"
#include "gtest/gtest.h"
#include "tests/support/fields.h"

namespace latticed {
namespace {

// What every formula is made of.
struct Terms {
  double links = 0;     // sum over links <xy> of phi_x phi_y
  double gradient = 0;  // sum over links of (phi_y - phi_x)^2
  double square = 0;    // sum_x phi_x^2
  double fourth = 0;    // sum_x phi_x^4
};

Terms TermsOf(const Lattice& lattice, const std::vector<double>& phi) {
  Terms terms;
  for (int64_t x0 = 0; x0 < lattice.l0; ++x0) {
    for (int64_t x1 = 0; x1 < lattice.l1; ++x1) {
      const double here = phi[x0 * lattice.l1 + x1];
      const double down = phi[(x0 + 1) % lattice.l0 * lattice.l1 + x1];
      const double right = phi[x0 * lattice.l1 + (x1 + 1) % lattice.l1];
      terms.links += here * (down + right);
      terms.gradient += std::pow(down - here, 2) + std::pow(right - here, 2);
      terms.square += here * here;
      terms.fourth += std::pow(here, 4);
    }
  }
  return terms;
}

void ExpectSamePhysics(const Phi4Couplings& ours,
                       const std::function<double(const Terms&)>& theirs) {
  const double scale = std::sqrt(ours.field_scale_squared);
  for (const Lattice& lattice : {Lattice{6, 6}, Lattice{4, 7}, Lattice{2, 2}}) {
    const Phi4 action(lattice, ours);
    double last_difference = 0;
    for (uint64_t i = 0; i < 4; ++i) {
      std::vector<double> phi = NoiseField(lattice, i);
      const double s = action.Evaluate(phi);
      for (double& value : phi) value *= scale;
      const double difference = theirs(TermsOf(lattice, phi)) - s;
      if (i > 0) {
        EXPECT_NEAR(difference, last_difference, 1e-10 * (1 + std::abs(s)));
      }
      last_difference = difference;
    }
  }
}

TEST(Phi4Couplings, OursIsTheFormulaOf211002673) {
  const Phi4Couplings ours{.mass_squared = -4, .lambda = 6.975};
  ExpectSamePhysics(ours, [](const Terms& t) {
    return t.gradient - 4 * t.square + 6.975 * t.fourth;
  });
}

TEST(Phi4Couplings, FromBosettiIsTheFormulaOf210512481) {
  const double beta = 0.61;
  const double lambda = 0.45;
  ExpectSamePhysics(Phi4Couplings::FromBosetti(beta, lambda),
                    [&](const Terms& t) {
                      return -beta * t.links + (1 - 2 * lambda) * t.square +
                             lambda * t.fourth;
                    });
}

TEST(Phi4Couplings, FromHoppingIsTheHoppingFormula) {
  const double kappa = 0.28;
  const double lambda = 0.022;
  ExpectSamePhysics(Phi4Couplings::FromHopping(kappa, lambda),
                    [&](const Terms& t) {
                      return -2 * kappa * t.links +
                             (1 - 2 * lambda) * t.square + lambda * t.fourth;
                    });
  // The other way it is printed, phi^2 + lambda (phi^2 - 1)^2, differs by a
  // constant, which cannot be told apart.
  ExpectSamePhysics(Phi4Couplings::FromHopping(kappa, lambda),
                    [&](const Terms& t) {
                      return -2 * kappa * t.links + t.square +
                             lambda * (t.fourth - 2 * t.square + 1);
                    });
}

TEST(Phi4Couplings, FromContinuumIsTheTextbookFormula) {
  const double mass_squared = -1.3;
  const double g = 9.5;
  ExpectSamePhysics(
      Phi4Couplings::FromContinuum(mass_squared, g), [&](const Terms& t) {
        return t.gradient / 2 + mass_squared / 2 * t.square + g / 24 * t.fourth;
      });
}

TEST(Phi4Couplings, FromNormflowIsTheFormulaOf230101504) {
  const double kappa = 0.67;
  const double mass_squared = -2.5;
  const double lambda = 0.5;
  ExpectSamePhysics(Phi4Couplings::FromNormflow(kappa, mass_squared, lambda),
                    [&](const Terms& t) {
                      return kappa / 2 * t.gradient +
                             mass_squared / 2 * t.square + lambda * t.fourth;
                    });
}

TEST(Phi4Couplings, FromSchaichIsTheFormulaOf09020045) {
  const double mu_squared = -0.7;
  const double lambda = 1.1;
  ExpectSamePhysics(Phi4Couplings::FromSchaich(mu_squared, lambda),
                    [&](const Terms& t) {
                      return t.gradient / 2 + mu_squared / 2 * t.square +
                             lambda / 4 * t.fourth;
                    });
}

// The line lambda = 1/2 of 2105.12481 is our m^2 = -4, lambda = 2 / beta^2.
TEST(Phi4Couplings, BosettisLineIsOurStandardLine) {
  for (const double beta : {0.537, 0.601, 0.645}) {
    const Phi4Couplings ours = Phi4Couplings::FromBosetti(beta, 0.5);
    EXPECT_DOUBLE_EQ(ours.mass_squared, -4);
    EXPECT_DOUBLE_EQ(ours.lambda, 2 / (beta * beta));
    EXPECT_DOUBLE_EQ(ours.field_scale_squared, 2 / beta);
  }
}

// One theory, said in six ways.
TEST(Phi4Couplings, AllConventionsMeetInOneTheory) {
  const double m2 = -4;
  const double lambda = 4.807;
  // beta solves m2 = 2 (1 - 2 l) / beta - 4 with l = lambda beta^2 / 4.
  const double beta = std::sqrt(2 / lambda);
  const double kappa = 0.8;
  for (const Phi4Couplings& c :
       {Phi4Couplings::FromBosetti(beta, 0.5),
        Phi4Couplings::FromHopping(beta / 2, 0.5),
        Phi4Couplings::FromContinuum(m2, 6 * lambda),
        Phi4Couplings::FromNormflow(kappa, m2 * kappa,
                                    lambda * kappa * kappa / 4),
        Phi4Couplings::FromSchaich(m2, lambda)}) {
    EXPECT_NEAR(c.mass_squared, m2, 1e-14);
    EXPECT_NEAR(c.lambda, lambda, 1e-14);
  }
}

}  // namespace
}  // namespace latticed
