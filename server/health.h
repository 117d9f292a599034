// Effective sample size of what a version draws in production, against what the
// gate saw. Not thread-safe: one owner.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/stats/log_weights.h"

namespace latticed {

class VersionHealth {
 public:
  // Below this share of the gate's ESS a version is taken back.
  static constexpr double kShareOfGate = 0.7;

  // `gate_ess`: 0 if the version never passed a gate; then only draws that are
  // not finite count against it.
  explicit VersionHealth(double gate_ess);

  // The draws of one block. Returns why the version should not stay live: a
  // draw was not finite, or with 99 % confidence ESS is below that share of
  // the gate's. Empty if nothing speaks against it.
  std::string Observe(const WeightSums& sums);

 private:
  // Below this the jackknife over blocks is no judge of tails.
  static constexpr uint64_t kDrawsMin = 1 << 16;

  double gate_ess_;
  std::vector<WeightSums> blocks_;
  uint64_t draws_ = 0;
  uint64_t next_check_ = kDrawsMin;
  size_t next_block_ = 0;
};

}  // namespace latticed
