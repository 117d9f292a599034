#include "core/montecarlo/configuration_update.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/montecarlo/cluster.h"
#include "core/montecarlo/hmc.h"
#include "core/montecarlo/random_sequence.h"

namespace latticed {

double ClusterWidth(const Phi4Couplings& couplings) {
  // s^2 = 2 / (a + sqrt(a^2 + 4 lambda)) in the form without cancellation for
  // a > 0; the other root's for a < 0.
  const double a = 4 + couplings.mass_squared;
  const double root = std::sqrt(a * a + 4 * couplings.lambda);
  const double square =
      a >= 0 ? 2 / (a + root) : (root - a) / (2 * couplings.lambda);
  return 1.5 * std::sqrt(square);
}

double UpdateConfiguration(const ConfigurationUpdate& update,
                           const Phi4& action, const StreamId& stream,
                           uint64_t index, absl::Span<float> phi) {
  RandomSequence random(stream, index);
  std::vector<double> field(phi.begin(), phi.end());
  double accepted = 0;
  if (update.kind == ConfigurationUpdate::Kind::kCluster) {
    ClusterMonteCarlo cluster(action);
    for (uint32_t i = 0; i < update.repeats; ++i) {
      accepted += cluster.Update(update.scale, absl::MakeSpan(field), random)
                      .acceptance;
    }
  } else if (update.kind == ConfigurationUpdate::Kind::kHmc) {
    Hmc hmc(action, {.length = update.scale, .steps = update.hmc_steps});
    for (uint32_t i = 0; i < update.repeats; ++i) {
      accepted += hmc.Update(absl::MakeSpan(field), random).accepted ? 1 : 0;
    }
  }
  std::transform(field.begin(), field.end(), phi.begin(),
                 [](double x) { return static_cast<float>(x); });
  return accepted / update.repeats;
}

}  // namespace latticed
