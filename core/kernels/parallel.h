// The process's compute threads (LibTorch's intra-op pool).
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace latticed {

int ComputeThreads();
// At start-up, before any ParallelFor; 0: one a core that the process may use.
// Without a call there is one thread.
void SetComputeThreads(int threads);

// body(thread, i) for i = 0..n-1, thread < ComputeThreads() its worker's
// number. Which thread gets which i is a function of n and ComputeThreads().
void ParallelFor(int64_t n, absl::FunctionRef<void(int, int64_t)> body);

}  // namespace latticed
