#include "core/stats/observables.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "core/random/stream.h"
#include "core/stats/observable_sums.h"
#include "core/theory/free_field.h"
#include "gtest/gtest.h"
#include "tests/support/noise.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

constexpr int64_t kL = 4;

// White noise of variance s^2: chi_2 = F = phi2 = s^2, no neighbours.
std::vector<Measurement> WhiteNoise(size_t count, float s = 1) {
  std::vector<Measurement> measurements;
  std::vector<float> phi(kL * kL);
  for (size_t i = 0; i < count; ++i) {
    Normals(NamedStream("white"), i, Purpose::kBaseDraw, absl::MakeSpan(phi));
    for (float& value : phi) value *= s;
    measurements.push_back(Measure(phi, kL, kL, /*action=*/0));
  }
  return measurements;
}

// Independent configurations of the free field by its spectrum, real modes
// from the cas basis: phi = sum_k sqrt(D_k / V) n_k cas(k x), with
// cas = cos + sin and D_k = 1 / (2 (khat^2 + m^2)).
std::vector<Measurement> FreeField(const Lattice& lattice, double mass_squared,
                                   size_t count) {
  const int64_t l0 = lattice.l0;
  const int64_t l1 = lattice.l1;
  const int64_t sites = lattice.Sites();
  std::vector<double> basis(sites * sites);
  for (int64_t k = 0; k < sites; ++k) {
    const double amplitude =
        std::sqrt(0.5 / (KhatSquared(lattice, k / l1, k % l1) + mass_squared) /
                  static_cast<double>(sites));
    for (int64_t x = 0; x < sites; ++x) {
      const double angle =
          2 * std::numbers::pi *
          (static_cast<double>(k / l1 * (x / l1)) / static_cast<double>(l0) +
           static_cast<double>(k % l1 * (x % l1)) / static_cast<double>(l1));
      basis[k * sites + x] = amplitude * (std::cos(angle) + std::sin(angle));
    }
  }
  std::vector<Measurement> measurements;
  std::vector<float> normals(sites);
  for (size_t i = 0; i < count; ++i) {
    Normals(NamedStream("free"), i, Purpose::kBaseDraw,
            absl::MakeSpan(normals));
    std::vector<double> phi(sites, 0.0);
    for (int64_t k = 0; k < sites; ++k) {
      for (int64_t x = 0; x < sites; ++x) {
        phi[x] += normals[k] * basis[k * sites + x];
      }
    }
    measurements.push_back(Measure(std::vector<float>(phi.begin(), phi.end()),
                                   l0, l1, /*action=*/0));
  }
  return measurements;
}

// Six of the jackknife's units: the error is known to 9 %.
void ExpectNear(const std::map<std::string, Estimate>& estimates,
                const std::string& name, double exact) {
  ASSERT_TRUE(estimates.contains(name)) << name;
  const Estimate estimate = estimates.at(name);
  EXPECT_THAT(estimate.value, IsWithinErrors(exact, estimate.error, 6.0))
      << name;
}

TEST(Observables, WhiteNoiseHasItsExactValues) {
  const auto estimates = EstimateIndependent(WhiteNoise(20000), {}, kL, kL);
  ExpectNear(estimates, "chi_2", 1);
  ExpectNear(estimates, "phi2", 1);
  ExpectNear(estimates, "link_energy", 0);
  // M is Gaussian with variance 1/V.
  ExpectNear(estimates, "abs_M", std::sqrt(2 / std::numbers::pi) / kL);
  ExpectNear(estimates, "binder_U", 0);
  ExpectNear(estimates, "Gt_0", 1.0 / kL);
  ExpectNear(estimates, "Gt_1", 0);
}

// m_eff of the exact two-point function, at every t; on the free field
// Gt(t) = sum_k cos(k t) / (2 L_0 L_1 (4 sin^2(k/2) + m^2)), so that
// m_eff = 2 asinh(m / 2) for every t in 1..L-1.
TEST(Observables, FreeFieldHasItsExactMassAndCorrelations) {
  const Lattice lattice{4, 8};
  const double mass_squared = 0.5;
  const auto estimates = EstimateIndependent(
      FreeField(lattice, mass_squared, 40000), {}, lattice.l0, lattice.l1);
  const std::vector<double> g = FreeFieldPropagator(lattice, mass_squared);
  const double m = 2 * std::asinh(std::sqrt(mass_squared) / 2);
  ExpectNear(estimates, "chi_2", 1 / (2 * mass_squared));
  ExpectNear(estimates, "phi2", g[0]);
  ExpectNear(estimates, "link_energy", (g[1] + g[lattice.l1]) / 2);
  ExpectNear(estimates, "m_p_L", 8 * m);
  ExpectNear(estimates, "xi", 1 / m);
  ExpectNear(estimates, "m_eff_1", m);
  ExpectNear(estimates, "m_eff_4", m);
  // chi_2 / F - 1 = khat^2 / m^2 at the smallest momentum: xi = 1 / m.
  ExpectNear(estimates, "xi_2nd", 1 / std::sqrt(mass_squared));
  ExpectNear(estimates, "binder_U", 0);
  for (int64_t t = 0; t <= 4; ++t) {
    double gt = 0;
    for (int64_t r0 = 0; r0 < 4; ++r0) gt += g[r0 * 8 + t] / 4;
    ExpectNear(estimates, "Gt_" + std::to_string(t), gt);
  }
  EXPECT_FALSE(estimates.contains("Gt_5"));
}

// Two measurements, M = 0.5 and -0.25: every mean by hand.
TEST(Observables, AreTheFormulasOfTheirMeans) {
  std::vector<Measurement> x = {
      Measure(std::vector<float>(16, 0.5f), kL, kL, /*action=*/8),
      Measure(std::vector<float>(16, -0.25f), kL, kL, /*action=*/4)};
  const auto estimates = EstimateIndependent(x, {}, kL, kL);
  const double m2 = (0.25 + 0.0625) / 2;
  const double m4 = (0.0625 + 0.00390625) / 2;
  EXPECT_DOUBLE_EQ(estimates.at("chi_2").value, 16 * m2);
  EXPECT_DOUBLE_EQ(estimates.at("abs_M").value, 0.375);
  EXPECT_DOUBLE_EQ(estimates.at("binder_U").value, 1 - m4 / (3 * m2 * m2));
  EXPECT_DOUBLE_EQ(estimates.at("action_per_site").value, 0.375);
  // Of two values it is half their difference.
  EXPECT_DOUBLE_EQ(estimates.at("abs_M").error, 0.125);
}

TEST(Observables, EqualLogWeightsChangeNothing) {
  const std::vector<Measurement> x = WhiteNoise(500);
  const auto plain = EstimateIndependent(x, {}, kL, kL);
  const auto weighted =
      EstimateIndependent(x, std::vector<double>(500, -1e5), kL, kL);
  ASSERT_EQ(plain.size(), weighted.size());
  for (const auto& [name, estimate] : plain) {
    if (!std::isfinite(estimate.value)) continue;
    EXPECT_DOUBLE_EQ(weighted.at(name).value, estimate.value) << name;
  }
}

// From variance 1 to s^2 = 0.9: log w = -(1/s^2 - 1) V phi2 / 2 + const.
TEST(Observables, ReweightingGivesTheTargetsValues) {
  constexpr double kS2 = 0.9;
  const std::vector<Measurement> x = WhiteNoise(20000);
  std::vector<double> log_w;
  for (const Measurement& measurement : x) {
    log_w.push_back(-(1 / kS2 - 1) * kL * kL * measurement.phi2 / 2);
  }
  const auto estimates = EstimateIndependent(x, log_w, kL, kL);
  ExpectNear(estimates, "chi_2", kS2);
  ExpectNear(estimates, "phi2", kS2);
  // And not the proposal's, far outside the errors.
  EXPECT_LT(estimates.at("phi2").value + 20 * estimates.at("phi2").error, 1);
}

TEST(Observables, NonFiniteWeightsAreLeftOut) {
  std::vector<Measurement> x = WhiteNoise(100);
  const auto plain = EstimateIndependent(x, {}, kL, kL);
  std::vector<double> log_w(100, 2.0);
  x.push_back(x[0]);
  log_w.push_back(std::nan(""));
  x.insert(x.begin(), x[0]);
  log_w.insert(log_w.begin(), std::numeric_limits<double>::infinity());
  const auto estimates = EstimateIndependent(x, log_w, kL, kL);
  EXPECT_DOUBLE_EQ(estimates.at("chi_2").value, plain.at("chi_2").value);
  EXPECT_NEAR(estimates.at("chi_2").error, plain.at("chi_2").error, 1e-12);
  EXPECT_TRUE(EstimateIndependent({x[0]}, {std::nan("")}, kL, kL).empty());
  EXPECT_TRUE(EstimateIndependent({}, {}, kL, kL).empty());
}

TEST(Observables, OneMeasurementHasAnUnknownError) {
  const auto estimates = EstimateIndependent(WhiteNoise(1), {}, kL, kL);
  EXPECT_EQ(estimates.at("chi_2").error,
            std::numeric_limits<double>::infinity());
}

// Both methods know the error to a few percent.
TEST(EstimateChain, AgreesWithTheJackknifeOnIndependentMeasurements) {
  const std::vector<Measurement> x = FreeField({4, 4}, 0.5, 20000);
  const auto jackknife = EstimateIndependent(x, {}, 4, 4);
  const auto gamma = EstimateChain(x, 4, 4);
  ASSERT_EQ(jackknife.size(), gamma.size());
  for (const auto& [name, estimate] : jackknife) {
    EXPECT_NEAR(gamma.at(name).value, estimate.value, 1e-10) << name;
    if (name == "action_per_site") continue;  // zero throughout
    // 9 % of the jackknife's own: five standard deviations.
    EXPECT_NEAR(gamma.at(name).error / estimate.error, 1, 0.45) << name;
  }
}

// Repeated four times each: the errors double at the same values' count, which
// only the chain's estimate knows.
TEST(EstimateChain, SeesAutocorrelation) {
  const std::vector<Measurement> x = FreeField({4, 4}, 0.5, 5000);
  std::vector<Measurement> repeated;
  for (const Measurement& m : x) repeated.insert(repeated.end(), 4, m);
  const auto once = EstimateChain(x, 4, 4);
  const auto chain = EstimateChain(repeated, 4, 4);
  for (const std::string name : {"chi_2", "phi2", "m_p_L", "xi_2nd"}) {
    EXPECT_NEAR(chain.at(name).value, once.at(name).value, 1e-12) << name;
    EXPECT_NEAR(chain.at(name).error / once.at(name).error, 1, 0.2) << name;
  }
}

TEST(ObservableSums, MergeIsTheSumOfTheUnion) {
  const std::vector<Measurement> x = WhiteNoise(10);
  ObservableSums whole(kL, kL);
  ObservableSums left(kL, kL);
  ObservableSums right(kL, kL);
  for (size_t i = 0; i < x.size(); ++i) {
    const double weight = 1.0 + static_cast<double>(i);
    whole.Add(x[i], weight);
    (i < 3 ? left : right).Add(x[i], weight);
  }
  left.Merge(right);
  EXPECT_DOUBLE_EQ(left.weight(), whole.weight());
  for (size_t p = 0; p < whole.sums().size(); ++p) {
    EXPECT_NEAR(left.sums()[p], whole.sums()[p], 1e-12);
  }
}

TEST(EstimateBlocks, OfNothingIsEmpty) {
  EXPECT_TRUE(EstimateBlocks({}).empty());
  EXPECT_TRUE(EstimateBlocks({ObservableSums(4, 4)}).empty());
}

}  // namespace
}  // namespace latticed
