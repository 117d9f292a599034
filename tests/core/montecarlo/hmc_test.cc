#include "core/montecarlo/hmc.h"

#include <cmath>
#include <vector>

#include "core/theory/phi4.h"
#include "gtest/gtest.h"
#include "tests/core/montecarlo/chain_checks.h"

namespace latticed {
namespace {

constexpr Phi4Couplings kL6{.mass_squared = -4, .lambda = 6.975};

std::vector<double> Hot(const Lattice& lattice, RandomSequence& random) {
  std::vector<double> phi(lattice.Sites());
  random.Normals(absl::MakeSpan(phi));
  for (double& value : phi) value *= 0.4;
  return phi;
}

// A chain past its thermalisation.
struct Chain {
  Chain(const Action& action, const HmcOptions& options, const char* name)
      : random(NamedStream(name)),
        hmc(action, options),
        phi(Hot(action.lattice(), random)) {
    for (int i = 0; i < 300; ++i) Update();
  }
  HmcStep Update() { return hmc.Update(absl::MakeSpan(phi), random); }

  RandomSequence random;
  Hmc hmc;
  std::vector<double> phi;
};

TEST(Hmc, ConservesPhaseSpaceOnAverage) {
  const Phi4 action({6, 6}, kL6);
  // Coarse steps, so that dH is of order one and the identity has work to do.
  Chain chain(action, {.length = 1, .steps = 4}, "dH");
  std::vector<double> weight;
  double squares = 0;
  constexpr int kUpdates = 20000;
  for (int i = 0; i < kUpdates; ++i) {
    const double delta_h = chain.Update().delta_h;
    weight.push_back(std::exp(-delta_h));
    squares += delta_h * delta_h / kUpdates;
  }
  const Autocorrelation a = GammaMethod(weight);
  EXPECT_THAT(a.mean, IsWithinErrors(1, a.error, kSigmas));
  EXPECT_LT(a.error, 0.02);
  EXPECT_GT(std::sqrt(squares), 0.1);
}

// Halving the step divides dH by four: rms over 2000 trajectories each, known
// to a few percent; third order would give eight, first order two.
TEST(Hmc, EnergyErrorIsOfSecondOrder) {
  const Phi4 action({6, 6}, kL6);
  const auto rms = [&](int64_t steps) {
    Chain chain(action, {.length = 1, .steps = steps, .jitter = 0}, "order");
    double squares = 0;
    for (int i = 0; i < 2000; ++i) {
      squares += std::pow(chain.Update().delta_h, 2) / 2000;
    }
    return std::sqrt(squares);
  };
  EXPECT_NEAR(rms(10) / rms(20), 4, 0.8);
}

TEST(Hmc, RefusedTrajectoriesLeaveTheFieldAlone) {
  const Phi4 action({4, 4}, kL6);
  Chain chain(action, {.length = 2, .steps = 4}, "refuse");
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    const std::vector<double> before = chain.phi;
    const HmcStep step = chain.Update();
    EXPECT_EQ(chain.phi == before, !step.accepted);
    if (step.delta_h <= 0) {
      EXPECT_TRUE(step.accepted);
    }
    refused += step.accepted ? 0 : 1;
  }
  EXPECT_GT(refused, 5);
  EXPECT_LT(refused, 495);
}

// Steps far too long overflow; the chain must not follow.
TEST(Hmc, RefusesTrajectoriesThatDiverge) {
  const Phi4 action({4, 4}, kL6);
  RandomSequence random(NamedStream("diverge"));
  Hmc hmc(action, {.length = 1000, .steps = 50});
  std::vector<double> phi = Hot({4, 4}, random);
  const std::vector<double> before = phi;
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(hmc.Update(absl::MakeSpan(phi), random).accepted);
  }
  EXPECT_EQ(phi, before);
}

TEST(Hmc, HasTheExactFreePropagatorOnARectangle) {
  const Lattice lattice{4, 6};
  const double mass_squared = 0.5;
  const Phi4 action(lattice, {.mass_squared = mass_squared, .lambda = 0});
  Chain chain(action, {.length = 1, .steps = 5}, "free");
  ExpectFreePropagator(
      lattice, mass_squared, chain.phi,
      [&](std::vector<double>& phi) {
        chain.hmc.Update(absl::MakeSpan(phi), chain.random);
      },
      20000, /*error_max=*/0.005);
}

TEST(Hmc, SatisfiesTheSchwingerDysonIdentity) {
  for (const Lattice& lattice : {Lattice{6, 6}, Lattice{2, 4}}) {
    const Phi4 action(lattice, kL6);
    Chain chain(action, {.length = 1, .steps = 6}, "identity");
    ExpectSchwingerDyson(
        action, chain.phi,
        [&](std::vector<double>& phi) {
          chain.hmc.Update(absl::MakeSpan(phi), chain.random);
        },
        15000, /*error_max=*/0.02);
  }
}

// Steps so long that a third of the trajectories is refused, and few sites, so
// that an error of dH or of the acceptance is an error of every site.
TEST(Hmc, CoarseTrajectoriesSampleTheSameDistribution) {
  const Phi4 action({2, 2}, kL6);
  Chain chain(action, {.length = 1.1, .steps = 3}, "coarse");
  int accepted = 0;
  constexpr int kUpdates = 200000;
  ExpectSchwingerDyson(
      action, chain.phi,
      [&](std::vector<double>& phi) {
        accepted +=
            chain.hmc.Update(absl::MakeSpan(phi), chain.random).accepted;
      },
      kUpdates, /*error_max=*/0.008);
  EXPECT_LT(accepted, 0.8 * kUpdates);
  EXPECT_GT(accepted, 0.3 * kUpdates);
}

TEST(Hmc, AgreesWithTheReferenceAtL6) {
  const Phi4 action({6, 6}, kL6);
  Chain chain(action, {.length = 1.5, .steps = 8}, "reference");
  std::vector<Measurement> measurements;
  for (int i = 0; i < 30000; ++i) {
    chain.Update();
    measurements.push_back(MeasureChain(action, chain.phi));
  }
  ExpectReferenceL6(EstimateChain(measurements, 6, 6));
}

TEST(Hmc, IsAFunctionOfItsStream) {
  const Phi4 action({4, 4}, kL6);
  Chain a(action, {}, "again");
  Chain b(action, {}, "again");
  Chain c(action, {}, "another");
  EXPECT_EQ(a.phi, b.phi);
  EXPECT_NE(a.phi, c.phi);
}

}  // namespace
}  // namespace latticed
