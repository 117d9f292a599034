// An optimiser step's gradient, from the draws of all processes.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "trainer/loss_gradient.h"
#include "trainer/process_group.h"
#include "trainer/window.h"

namespace latticed {

// The draws first .. first + count - 1 of a batch that a process makes:
// contiguous, in whole groups of 16, which are at least the kernels' lanes and
// what a batch is a multiple of. Shares differ by one group at most; of a batch
// with fewer groups than processes the last ones have none.
struct DrawShare {
  int64_t first = 0;
  int64_t count = 0;
};
DrawShare ShareOf(int64_t batch, int rank, int size);

// What a process tells the others with each step.
struct StepWords {
  double core_seconds = 0;  // processor time since it began
  bool interrupted = false;
  bool out_of_time = false;
};

struct SharedStep {
  std::vector<double> gradient;  // of the mean loss of the whole batch
  int64_t non_finite = 0;
  StepWords words;  // the sum; whether any said so
};

// Adds the log weights of this process's share to its `window`; `words` are
// asked for when its gradient is done. The processes exchange one sum, of
// StepBytes.
absl::StatusOr<SharedStep> ComputeStep(LossGradient* loss_gradient,
                                       ProcessGroup* group,
                                       absl::Span<const float> parameters,
                                       const StreamId& stream,
                                       uint64_t first_index, int64_t batch,
                                       absl::FunctionRef<StepWords()> words,
                                       Window* window);

// 8 (parameters + 4): float64, and what StepWords and non_finite take.
int64_t StepBytes(int64_t parameters);

}  // namespace latticed
