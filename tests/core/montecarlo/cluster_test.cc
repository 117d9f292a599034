#include "core/montecarlo/cluster.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "core/theory/phi4.h"
#include "gtest/gtest.h"
#include "tests/core/montecarlo/chain_checks.h"

namespace latticed {
namespace {

constexpr Phi4Couplings kL6{.mass_squared = -4, .lambda = 6.975};

// A chain past its thermalisation.
struct Chain {
  Chain(const Phi4& action, const char* name)
      : random(NamedStream(name)),
        cluster(action),
        phi(action.lattice().Sites()) {
    random.Normals(absl::MakeSpan(phi));
    width = cluster.Thermalise(1000, absl::MakeSpan(phi), random);
  }
  ClusterStep Update(std::vector<double>& field) {
    return cluster.Update(width, absl::MakeSpan(field), random);
  }

  RandomSequence random;
  ClusterMonteCarlo cluster;
  std::vector<double> phi;
  double width = 0;
};

TEST(ClusterMonteCarlo, TunesTheAcceptanceToOneHalf) {
  for (const Phi4Couplings& couplings :
       {kL6, Phi4Couplings{.mass_squared = 1, .lambda = 0},
        Phi4Couplings{.mass_squared = -4, .lambda = 60}}) {
    Chain chain(Phi4({8, 8}, couplings), "tune");
    double acceptance = 0;
    for (int i = 0; i < 500; ++i) {
      acceptance += chain.Update(chain.phi).acceptance / 500;
    }
    EXPECT_NEAR(acceptance, 0.5, 0.05);
  }
}

// At width 0 the sweep proposes where phi already is: signs alone change.
TEST(ClusterMonteCarlo, FlipsSignsAndKeepsMagnitudes) {
  Chain chain(Phi4({8, 8}, kL6), "signs");
  const std::vector<double> before = chain.phi;
  bool flipped = false;
  for (int i = 0; i < 20; ++i) {
    chain.cluster.Update(/*width=*/0, absl::MakeSpan(chain.phi), chain.random);
    for (size_t x = 0; x < before.size(); ++x) {
      EXPECT_EQ(std::abs(chain.phi[x]), std::abs(before[x]));
      flipped = flipped || chain.phi[x] != before[x];
    }
  }
  EXPECT_TRUE(flipped);
}

// Strong fields of one sign are one cluster, fields of alternating sign none.
TEST(ClusterMonteCarlo, BindsEqualSignsOnly) {
  const Lattice lattice{4, 6};
  Chain chain(Phi4(lattice, kL6), "bind");
  std::vector<double> phi(24, 10.0);
  EXPECT_EQ(chain.cluster.Update(0, absl::MakeSpan(phi), chain.random).clusters,
            1);
  EXPECT_EQ(std::set<double>(phi.begin(), phi.end()).size(), 1u);
  for (int64_t x = 0; x < 24; ++x) phi[x] = (x / 6 + x % 6) % 2 ? 10 : -10;
  EXPECT_EQ(chain.cluster.Update(0, absl::MakeSpan(phi), chain.random).clusters,
            24);
}

// Signs at fixed |phi| = a on a 2 x 3 lattice are an Ising model, whose
// distribution is a sum over 64 states. The mean of s_0 s_1 over independent
// enough updates: 40000 with tau_int below 1 and variance at most 1, so an
// error of at most sqrt(2 / 40000) = 0.007.
TEST(ClusterMonteCarlo, SignsHaveTheirExactDistribution) {
  const Lattice lattice{2, 3};
  const Phi4 action(lattice, {.mass_squared = 0, .lambda = 1});
  constexpr double kA = 0.4;
  double weights = 0;
  std::vector<double> exact(6, 0.0);  // of s_0 s_x
  for (int state = 0; state < 64; ++state) {
    std::vector<double> phi(6);
    for (int x = 0; x < 6; ++x) phi[x] = state >> x & 1 ? kA : -kA;
    const double w = std::exp(-action.Evaluate(phi));
    weights += w;
    for (int x = 0; x < 6; ++x) exact[x] += w * (phi[0] * phi[x] > 0 ? 1 : -1);
  }
  Chain chain(action, "ising");
  std::vector<double> phi(6, kA);
  constexpr int kUpdates = 40000;
  std::vector<double> mean(6, 0.0);
  for (int i = 0; i < kUpdates; ++i) {
    chain.cluster.Update(/*width=*/0, absl::MakeSpan(phi), chain.random);
    for (int x = 0; x < 6; ++x) {
      mean[x] += (phi[0] * phi[x] > 0 ? 1.0 : -1.0) / kUpdates;
    }
  }
  for (int x = 1; x < 6; ++x) {
    EXPECT_THAT(mean[x],
                IsWithinErrors(exact[x] / weights, std::sqrt(2.0 / kUpdates)))
        << x;
    EXPECT_GT(exact[x] / weights, 0.1);
  }
}

TEST(ClusterMonteCarlo, HasTheExactFreePropagatorOnARectangle) {
  const Lattice lattice{4, 6};
  const double mass_squared = 1;
  Chain chain(Phi4(lattice, {.mass_squared = mass_squared, .lambda = 0}),
              "free");
  ExpectFreePropagator(
      lattice, mass_squared, chain.phi,
      [&](std::vector<double>& phi) { chain.Update(phi); }, 40000,
      /*error_max=*/0.003);
}

TEST(ClusterMonteCarlo, SatisfiesTheSchwingerDysonIdentity) {
  for (const Lattice& lattice : {Lattice{6, 6}, Lattice{2, 4}}) {
    const Phi4 action(lattice, kL6);
    Chain chain(action, "identity");
    ExpectSchwingerDyson(
        action, chain.phi, [&](std::vector<double>& phi) { chain.Update(phi); },
        40000,
        /*error_max=*/0.02);
  }
}

TEST(ClusterMonteCarlo, AgreesWithTheReferenceAtL6) {
  const Phi4 action({6, 6}, kL6);
  Chain chain(action, "reference");
  std::vector<Measurement> measurements;
  std::vector<double> m;
  for (int i = 0; i < 60000; ++i) {
    chain.Update(chain.phi);
    measurements.push_back(MeasureChain(action, chain.phi));
    m.push_back(measurements.back().m);
  }
  ExpectReferenceL6(EstimateChain(measurements, 6, 6));
  // Both signs of M, equally often.
  const Autocorrelation a = GammaMethod(m);
  EXPECT_THAT(a.mean, IsWithinErrors(0, a.error, kSigmas));
}

}  // namespace
}  // namespace latticed
