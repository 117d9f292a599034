// Threads that run short functions in the order they were posted. Callers
// bound how many they post: a job of a call has at most one of them waiting.
// Thread-safe.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "server/mutex.h"

namespace latticed {

class Executor {
 public:
  explicit Executor(int threads);
  ~Executor();  // stops

  // Dropped once stopped.
  void Post(std::function<void()> function);
  // Runs what was posted, then joins.
  void Stop();

 private:
  void Run();

  Mutex mutex_;
  CondVar posted_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace latticed
