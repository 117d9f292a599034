#include "core/factory.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

v1::Lattice TwoByThree() {
  v1::Lattice lattice;
  lattice.add_extent(2);
  lattice.add_extent(3);
  return lattice;
}

// The same theory in all six conventions: m^2 = -4 + 2 (1 - 2 l) / beta etc.
// at beta = 0.6, l = 0.4. Formulas as in phi4.h, evaluated by hand.
TEST(Factory, ConventionsOfOneTheoryAgree) {
  constexpr double kBeta = 0.6;
  constexpr double kLambda = 0.4;
  const double m2 = 2 * (1 - 2 * kLambda) / kBeta - 4;  // -10/3
  const double lambda = 4 * kLambda / (kBeta * kBeta);  // 40/9
  std::vector<v1::Action> actions(6);
  auto* latticed = actions[0].mutable_phi4()->mutable_latticed();
  latticed->set_mass_squared(m2);
  latticed->set_lambda(lambda);
  auto* bosetti = actions[1].mutable_phi4()->mutable_bosetti();
  bosetti->set_beta(kBeta);
  bosetti->set_lambda(kLambda);
  auto* hopping = actions[2].mutable_phi4()->mutable_hopping();
  hopping->set_kappa(kBeta / 2);
  hopping->set_lambda(kLambda);
  auto* continuum = actions[3].mutable_phi4()->mutable_continuum();
  continuum->set_mass_squared(m2);
  continuum->set_g(6 * lambda);
  auto* normflow = actions[4].mutable_phi4()->mutable_normflow();
  normflow->set_kappa(kBeta);
  normflow->set_mass_squared(m2 * kBeta);
  normflow->set_lambda(kLambda);
  auto* schaich = actions[5].mutable_phi4()->mutable_schaich();
  schaich->set_mu_squared(m2);
  schaich->set_lambda(lambda);

  const double scale[] = {1, 2 / kBeta, 2 / kBeta, 2, 2 / kBeta, 2};
  for (size_t i = 0; i < actions.size(); ++i) {
    const absl::StatusOr<Phi4Couplings> couplings = MakeCouplings(actions[i]);
    ASSERT_TRUE(couplings.ok()) << couplings.status();
    EXPECT_NEAR(couplings->mass_squared, m2, 1e-13) << i;
    EXPECT_NEAR(couplings->lambda, lambda, 1e-13) << i;
    EXPECT_NEAR(couplings->field_scale_squared, scale[i], 1e-13) << i;
  }
}

TEST(Factory, MakesTheActionOfTheSpec) {
  v1::Action spec;
  spec.mutable_phi4()->mutable_latticed()->set_mass_squared(-4);
  spec.mutable_phi4()->mutable_latticed()->set_lambda(5);
  const auto action = MakeAction(spec, TwoByThree());
  ASSERT_TRUE(action.ok()) << action.status();
  EXPECT_EQ((*action)->lattice(), (Lattice{2, 3}));
  // A constant field has no kinetic term: S = V (m^2 c^2 + lambda c^4).
  const std::vector<double> constant(6, 0.5);
  EXPECT_DOUBLE_EQ((*action)->Evaluate(constant), 6 * (-1 + 0.3125));
}

TEST(Factory, FreeFieldIsPhi4WithoutCoupling) {
  v1::Action spec;
  spec.mutable_free_field()->set_mass_squared(0.25);
  const absl::StatusOr<Phi4Couplings> couplings = MakeCouplings(spec);
  ASSERT_TRUE(couplings.ok()) << couplings.status();
  EXPECT_EQ(couplings->mass_squared, 0.25);
  EXPECT_EQ(couplings->lambda, 0);
  EXPECT_EQ(couplings->field_scale_squared, 1);
}

TEST(Factory, MakeActionChecksTheLatticeToo) {
  v1::Action spec;
  spec.mutable_free_field()->set_mass_squared(0.25);
  v1::Lattice lattice = TwoByThree();
  lattice.add_extent(4);
  const absl::Status status = MakeAction(spec, lattice).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("lattice.extent"));
  EXPECT_FALSE(MakeAction(v1::Action(), TwoByThree()).ok());
}

}  // namespace
}  // namespace latticed
