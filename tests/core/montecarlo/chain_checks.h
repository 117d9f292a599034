// What every Markov chain of exp(-S)/Z must satisfy.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/stats/autocorrelation.h"
#include "core/stats/observables.h"
#include "core/theory/action.h"
#include "core/theory/free_field.h"
#include "gtest/gtest.h"
#include "tests/support/schwinger_dyson.h"
#include "tests/support/statistics.h"

namespace latticed {

// One update of the chain's configuration, in place.
using ChainUpdate = std::function<void(std::vector<double>&)>;

// Six of the Gamma method's own errors: they are known to some percent.
constexpr double kSigmas = 6;

// <phi_x dS/dphi_y> = delta_xy, and the errors small enough to tell.
inline void ExpectSchwingerDyson(const Action& action, std::vector<double> phi,
                                 const ChainUpdate& update, int64_t updates,
                                 double error_max) {
  std::vector<std::vector<double>> series(phi.size());
  for (int64_t i = 0; i < updates; ++i) {
    update(phi);
    const std::vector<double> sums = SchwingerDyson(action, phi);
    for (size_t r = 0; r < sums.size(); ++r) series[r].push_back(sums[r]);
  }
  for (size_t r = 0; r < series.size(); ++r) {
    const Autocorrelation a = GammaMethod(series[r]);
    EXPECT_THAT(a.mean, IsWithinErrors(r == 0 ? 1.0 : 0.0, a.error, kSigmas))
        << "displacement " << r;
    EXPECT_LT(a.error, error_max) << "displacement " << r;
  }
}

// <phi_x phi_{x+r}> against the exact propagator, for every r.
inline void ExpectFreePropagator(const Lattice& lattice, double mass_squared,
                                 std::vector<double> phi,
                                 const ChainUpdate& update, int64_t updates,
                                 double error_max) {
  std::vector<std::vector<double>> series(phi.size());
  for (int64_t i = 0; i < updates; ++i) {
    update(phi);
    for (int64_t r0 = 0; r0 < lattice.l0; ++r0) {
      for (int64_t r1 = 0; r1 < lattice.l1; ++r1) {
        double sum = 0;
        for (int64_t x0 = 0; x0 < lattice.l0; ++x0) {
          for (int64_t x1 = 0; x1 < lattice.l1; ++x1) {
            sum += phi[x0 * lattice.l1 + x1] *
                   phi[(x0 + r0) % lattice.l0 * lattice.l1 +
                       (x1 + r1) % lattice.l1];
          }
        }
        series[r0 * lattice.l1 + r1].push_back(
            sum / static_cast<double>(lattice.Sites()));
      }
    }
  }
  const std::vector<double> exact = FreeFieldPropagator(lattice, mass_squared);
  for (size_t r = 0; r < series.size(); ++r) {
    const Autocorrelation a = GammaMethod(series[r]);
    EXPECT_THAT(a.mean, IsWithinErrors(exact[r], a.error, kSigmas))
        << "displacement " << r;
    EXPECT_LT(a.error, error_max) << "displacement " << r;
  }
}

inline const std::map<std::string, Estimate>& ReferenceL6() {
  // L = 6, m^2 = -4, lambda = 6.975, 2e7 updates: the project's Monte Carlo
  // reference, made by a program that shares nothing with this one.
  static const std::map<std::string, Estimate> reference = {
      {"chi_2", {1.0631168, 0.0004879}},
      {"m_p_L", {3.974775, 0.0013818}},
      {"xi_2nd", {1.4832543, 0.0005876}},
      {"abs_M", {0.1414938, 3.86e-05}},
      {"binder_U", {0.1923861, 0.0002445}},
      {"phi2", {0.1613974, 1.75e-05}},
      {"link_energy", {0.0583534, 1.66e-05}},
      {"action_per_site", {0.1333186, 3.64e-05}}};
  return reference;
}

// Every observable of the reference, within the errors of both.
inline void ExpectReferenceL6(const std::map<std::string, Estimate>& ours) {
  for (const auto& [name, reference] : ReferenceL6()) {
    ASSERT_TRUE(ours.contains(name)) << name;
    const Estimate& estimate = ours.at(name);
    EXPECT_THAT(
        estimate.value,
        IsWithinErrors(reference.value,
                       CombinedError(reference.error, estimate.error), kSigmas))
        << name;
    // Errors of a few percent of the value, or of 1 for the Binder parameter.
    EXPECT_LT(estimate.error, 0.03 * (name == "binder_U" ? 1 : reference.value))
        << name;
  }
}

inline Measurement MeasureChain(const Action& action,
                                const std::vector<double>& phi) {
  return Measure(std::vector<float>(phi.begin(), phi.end()),
                 action.lattice().l0, action.lattice().l1,
                 action.Evaluate(absl::MakeConstSpan(phi)));
}

}  // namespace latticed
