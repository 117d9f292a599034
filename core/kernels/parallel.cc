#include "core/kernels/parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

namespace latticed {

#ifdef LATTICED_SERIAL

int ComputeThreads() { return 1; }
void SetComputeThreads(int threads) {}
void ParallelFor(int64_t n, absl::FunctionRef<void(int, int64_t)> body) {
  for (int64_t i = 0; i < n; ++i) body(0, i);
}

#else

int ComputeThreads() { return at::get_num_threads(); }
void SetComputeThreads(int threads) {
  at::set_num_threads(
      threads > 0
          ? threads
          : std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
}
void ParallelFor(int64_t n, absl::FunctionRef<void(int, int64_t)> body) {
  at::parallel_for(0, n, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(at::get_thread_num(), i);
  });
}

#endif

}  // namespace latticed
