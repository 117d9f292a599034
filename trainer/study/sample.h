// Draws of a published flow, measured.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/repository.h"
#include "core/stats/observables.h"

namespace latticed {

struct Sample {
  std::vector<Measurement> measurements;
  std::vector<double> log_w;
  double core_seconds = 0;  // of drawing alone
};

// Draws 0..draws-1 of the named stream. CANCELLED when `stop` turns true.
absl::StatusOr<Sample> DrawSample(const Checkpoint& checkpoint, int64_t draws,
                                  const std::string& stream_name,
                                  const std::atomic<bool>& stop);

}  // namespace latticed
