// When a training publishes what it has.
#pragma once

#include "absl/status/status.h"
#include "latticed/v1/spec.pb.h"
#include "trainer/metrics.h"
#include "trainer/process_group.h"
#include "trainer/progress.h"
#include "trainer/train.h"

namespace latticed {

// Evaluates the averaged weights on held-out draws, all processes together;
// process 0 publishes them if there is no version yet or sigma^2/site is lower
// than the newest one's by more than its error. Every process returns the same.
absl::Status PublishIfBetter(const TrainOptions& options,
                             const v1::TrainingSpec& spec,
                             const v1::TrainingState& state,
                             ProcessGroup* group, Progress* progress,
                             TrainerMetrics* metrics);

}  // namespace latticed
