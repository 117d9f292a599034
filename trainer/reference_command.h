// `latticed-train reference`: Monte Carlo values of a spec's ensemble.
#pragma once

#include <atomic>

#include "absl/status/status.h"
#include "latticed/v1/spec.pb.h"
#include "trainer/progress.h"
#include "trainer/train.h"

namespace latticed {

// Runs `updates` cluster updates after thermalisation and writes
// <repository>/<model>/reference with observables, errors, autocorrelation
// times and `configurations` independent configurations. INVALID_ARGUMENT names
// a flag or field; CANCELLED once `stop` is true, nothing written.
absl::Status RunReferenceCommand(const TrainOptions& options,
                                 const v1::TrainingSpec& spec, uint64_t updates,
                                 uint64_t configurations, Progress* progress,
                                 const std::atomic<bool>& stop);

}  // namespace latticed
