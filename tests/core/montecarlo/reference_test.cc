#include "core/montecarlo/reference.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/core/montecarlo/chain_checks.h"

namespace latticed {
namespace {

constexpr Lattice kLattice{6, 6};
constexpr Phi4Couplings kCouplings{.mass_squared = -4, .lambda = 6.975};

TEST(RunReference, AgreesWithTheReferenceAtL6) {
  const ReferenceRun run =
      RunReference(kLattice, kCouplings,
                   {.updates = 60000, .configurations = 0}, NamedStream("run"));
  ASSERT_TRUE(run.complete);
  EXPECT_EQ(run.updates, 60000);
  EXPECT_TRUE(run.phi.empty());
  ExpectReferenceL6(run.observables);
  EXPECT_NEAR(run.metropolis_acceptance, 0.5, 0.05);
  // The same algorithm elsewhere has 2.162.
  EXPECT_NEAR(run.tau_int.at("chi_2"), 2.162, 0.3);
  EXPECT_NE(run.method.find("Swendsen-Wang"), std::string::npos);
}

// 2000 kept configurations: their V M^2 and phi^2 have neighbouring
// correlations of 0 +- 1/sqrt(2000), and exp(-4) at four tau_int.
TEST(RunReference, KeptConfigurationsAreIndependent) {
  constexpr int64_t kKept = 2000;
  const ReferenceRun run = RunReference(
      kLattice, kCouplings, {.updates = 1000, .configurations = kKept},
      NamedStream("kept"));
  ASSERT_TRUE(run.complete);
  for (const auto& [name, tau_int] : run.tau_int) {
    EXPECT_GT(static_cast<double>(run.thinning), 4 * tau_int) << name;
  }
  EXPECT_LT(run.thinning, 30);
  EXPECT_EQ(run.updates, run.thinning * kKept);
  ASSERT_EQ(run.phi.size(), static_cast<size_t>(kKept * 36));

  std::vector<Measurement> x;
  std::vector<double> chi;
  for (int64_t i = 0; i < kKept; ++i) {
    const absl::Span<const float> phi =
        absl::MakeConstSpan(run.phi).subspan(i * 36, 36);
    x.push_back(Measure(phi, 6, 6, Phi4(kLattice, kCouplings).Evaluate(phi)));
    chi.push_back(x.back().m * x.back().m);
  }
  double mean = 0;
  for (const double value : chi) mean += value / kKept;
  double variance = 0;
  double neighbours = 0;
  for (int64_t i = 0; i + 1 < kKept; ++i) {
    variance += (chi[i] - mean) * (chi[i] - mean);
    neighbours += (chi[i] - mean) * (chi[i + 1] - mean);
  }
  EXPECT_NEAR(neighbours / variance, 0, std::exp(-4) + 5 / std::sqrt(kKept));
  const auto estimates = EstimateIndependent(x, {}, 6, 6);
  for (const std::string name : {"chi_2", "phi2", "action_per_site"}) {
    const Estimate& estimate = estimates.at(name);
    EXPECT_THAT(estimate.value, IsWithinErrors(ReferenceL6().at(name).value,
                                               estimate.error, kSigmas))
        << name;
  }
}

TEST(RunReference, IsAFunctionOfItsArguments) {
  const ReferenceOptions options{
      .updates = 1000, .thermalisation = 1000, .configurations = 10};
  const auto run = [&](const char* name) {
    return RunReference({2, 4}, kCouplings, options, NamedStream(name));
  };
  EXPECT_EQ(run("a").phi, run("a").phi);
  EXPECT_NE(run("a").phi, run("b").phi);
}

TEST(RunReference, StopsWhenAsked) {
  int calls = 0;
  ReferenceOptions options{.updates = 100000, .thermalisation = 1000};
  options.progress = [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 100000);
    EXPECT_EQ(done, 512 * calls);
    return ++calls < 3;
  };
  const ReferenceRun run =
      RunReference({4, 4}, kCouplings, options, NamedStream("stop"));
  EXPECT_FALSE(run.complete);
  EXPECT_TRUE(run.observables.empty());
  EXPECT_EQ(calls, 3);
}

}  // namespace
}  // namespace latticed
