// The process's compute threads.
//
// They sleep while there is nothing to do, which is why they are not LibTorch's
// OpenMP ones: those spin at the end of every region and take the cores that
// serving threads need (docs/decisions/0002-compute-threads.md).
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace latticed {

int ComputeThreads();

// Once, at start-up, before any ParallelFor; 0: one a core that the process may
// use. Also LibTorch's number of threads; its BLAS gets one. Without a call
// there is one.
void SetComputeThreads(int threads);

// body(thread, i) for every i = 0..n-1, in any order, `thread` <
// ComputeThreads() the number of its worker; returns when all are done. A call
// from a second thread while one is under way runs on the caller alone.
// Thread-safe; `body` must not throw.
void ParallelFor(int64_t n, absl::FunctionRef<void(int, int64_t)> body);

}  // namespace latticed
