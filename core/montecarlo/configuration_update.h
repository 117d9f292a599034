// Updates of a stored configuration by a kernel that leaves p = exp(-S) / Z
// invariant, as chains of other proposals put them between their steps.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "core/random/stream.h"
#include "core/theory/phi4.h"

namespace latticed {

struct ConfigurationUpdate {
  enum class Kind : uint8_t { kNone = 0, kCluster = 1, kHmc = 2 };
  Kind kind = Kind::kNone;
  uint32_t repeats = 1;
  // Cluster: the width of the sweep; HMC: the length of a trajectory.
  double scale = 1;
  uint32_t hmc_steps = 10;

  friend bool operator==(const ConfigurationUpdate&,
                         const ConfigurationUpdate&) = default;
};

// An acceptance of about one half for the cluster update's sweep, and a quarter
// between deep wells: 1.5 s, where
// (4 + m^2) s^2 + lambda s^4 = 1, so that the part of S that is phi_x's own
// rises by one over s. Requires lambda > 0 or m^2 > -4.
double ClusterWidth(const Phi4Couplings& couplings);

// phi [Sites()] in place, in double and rounded to float at the end; the random
// words of (stream, index, kChainUpdate) from block 0 on. Returns the
// acceptance: of the sweeps, or of the trajectories. Thread-safe.
double UpdateConfiguration(const ConfigurationUpdate& update,
                           const Phi4& action, const StreamId& stream,
                           uint64_t index, absl::Span<float> phi);

}  // namespace latticed
