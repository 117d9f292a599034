#include "core/kernels/parallel.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace latticed {
namespace {

using Body = absl::FunctionRef<void(int, int64_t)>;

// The caller of Run is worker 0.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int worker = 1; worker < threads; ++worker) {
      workers_.emplace_back([this, worker] { Work(worker); });
    }
  }
  ~Pool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // False, having done nothing, if another thread is in a call.
  bool TryRun(int64_t n, Body body) {
    const std::unique_lock<std::mutex> caller(callers_, std::try_to_lock);
    if (!caller.owns_lock()) return false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      n_ = n;
      next_.store(0);
      running_ = static_cast<int>(workers_.size());
      ++generation_;
    }
    wake_.notify_all();
    Share(0, n, body);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
    return true;
  }

 private:
  void Share(int worker, int64_t n, Body body) {
    for (int64_t i; (i = next_.fetch_add(1)) < n;) body(worker, i);
  }
  void Work(int worker) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      const Body body = *body_;
      const int64_t n = n_;
      lock.unlock();
      Share(worker, n, body);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex callers_;  // held for the length of a call
  std::mutex mutex_;    // guards what follows but next_
  std::condition_variable wake_, done_;
  const Body* body_ = nullptr;
  int64_t n_ = 0;
  int running_ = 0;
  uint64_t generation_ = 0;
  bool stopping_ = false;
  std::atomic<int64_t> next_{0};
  std::vector<std::thread> workers_;
};

// One set for the process, as there is one set of cores.
std::unique_ptr<Pool>& ProcessPool() {
  static std::unique_ptr<Pool> pool;
  return pool;
}

// OpenBLAS has threads of its own, as many as cores whatever LibTorch is told,
// that spin while they wait. Our matrices are too small to gain by them: with
// one a step of the published flow takes the same time and half the processor
// time.
void KeepBlasSingle() {
  using SetThreads = void (*)(int);
  const auto set = reinterpret_cast<SetThreads>(
      dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (set != nullptr) set(1);
}

}  // namespace

int ComputeThreads() {
  const Pool* pool = ProcessPool().get();
  return pool == nullptr ? 1 : pool->threads();
}

void SetComputeThreads(int threads) {
  if (threads <= 0) {
    threads =
        std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  KeepBlasSingle();  // an OpenMP build of it would set LibTorch's threads too
  at::set_num_threads(threads);
  ProcessPool() = std::make_unique<Pool>(threads);
}

void ParallelFor(int64_t n, Body body) {
  Pool* pool = ProcessPool().get();
  if (n > 1 && pool != nullptr && pool->TryRun(n, body)) return;
  for (int64_t i = 0; i < n; ++i) body(0, i);
}

}  // namespace latticed
