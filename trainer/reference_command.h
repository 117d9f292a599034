// `latticed-train reference`: Monte Carlo values of a spec's ensemble.
#pragma once

#include <atomic>

#include "absl/status/status.h"
#include "latticed/v1/spec.pb.h"
#include "trainer/progress.h"
#include "trainer/train.h"

namespace latticed {

struct ReferenceCommand {
  uint64_t updates = 1000000;      // cluster updates after thermalisation
  uint64_t configurations = 4096;  // independent ones to keep
  bool if_missing = false;         // leave the reference that is there as it is
};

// Writes <repository>/<model>/reference with observables, errors,
// autocorrelation times and configurations, in place of the one that is there.
// INVALID_ARGUMENT names a flag or field; CANCELLED once `stop` is true,
// nothing written. With if_missing, DATA_LOSS for one that is there and
// damaged, FAILED_PRECONDITION if it is of another action or lattice than the
// spec.
absl::Status RunReferenceCommand(const TrainOptions& options,
                                 const v1::TrainingSpec& spec,
                                 const ReferenceCommand& command,
                                 Progress* progress,
                                 const std::atomic<bool>& stop);

}  // namespace latticed
