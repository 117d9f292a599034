// Adam (1412.6980 algorithm 1) with gradient-norm clipping, a warm-up and
// cosine learning rate, and an exponential moving average of the weights.
// State is float32 and lives in v1::TrainingState, so that a resumed run
// continues to the bit.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

int64_t TotalSteps(const v1::TrainingSpec& spec);
// Batch of step 0 <= step < TotalSteps.
int64_t BatchAt(const v1::TrainingSpec& spec, int64_t step);
// rate(step): linear to learning_rate over warmup_steps, then half a cosine
// down to learning_rate_final at TotalSteps.
double LearningRateAt(const v1::TrainingSpec& spec, int64_t step);

// Applies one step (state->step()) and counts it; returns the gradient's norm
// before clipping. A non-finite gradient changes no weight.
double AdamStep(const v1::TrainingSpec& spec, absl::Span<const double> gradient,
                v1::TrainingState* state);

}  // namespace latticed
