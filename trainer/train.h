// A training run: from a spec to published versions.
#pragma once

#include <atomic>
#include <string>

#include "absl/status/status.h"
#include "latticed/v1/spec.pb.h"
#include "trainer/metrics.h"
#include "trainer/process_group.h"
#include "trainer/progress.h"

namespace latticed {

struct TrainOptions {
  std::string repository;
  std::string model;
  // Of the state file; default <repository>/.training.
  std::string state_directory;
  bool restart = false;      // forget a saved state
  double minutes_max = 0;    // save and stop after so long; 0: no limit
  int64_t stop_at_step = 0;  // save and stop after this one; 0: none
  std::string command;       // for the manifest
  bool say_resuming = true;
};

enum class TrainOutcome {
  kFinished,
  kStopped,      // after stop_at_step or minutes_max
  kInterrupted,  // `stop` turned true, here or in another process
};

// Validates the spec, continues from the saved state if there is one, trains,
// and publishes the averaged weights if they are better than the newest
// version: sigma^2/site on held-out draws lower by more than its error. When
// `stop` turns true, or minutes_max is over, saves the state after the step in
// hand.
//
// The processes of a `group` (null: one process) split each batch and stay
// equal to the bit; losses are those of one process to rounding. Process 0
// alone reads and writes files, reports and keeps the time. UNAVAILABLE if
// another process is lost; FAILED_PRECONDITION if one has another spec, build,
// model or number of threads.
absl::StatusOr<TrainOutcome> Train(const TrainOptions& options,
                                   const v1::TrainingSpec& spec,
                                   Progress* progress, TrainerMetrics* metrics,
                                   const std::atomic<bool>& stop,
                                   ProcessGroup* group = nullptr);

// The step-0 state of a spec: free-field start, or a published model's weights
// moved to this spec's shape.
absl::StatusOr<v1::TrainingState> StartState(const TrainOptions& options,
                                             const v1::TrainingSpec& spec);

}  // namespace latticed
