// std::mutex under Abseil's thread annotations: Clang's -Wthread-safety checks
// ABSL_GUARDED_BY, and the thread sanitizer sees the lock (it cannot see inside
// a packaged absl::Mutex).
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"

#if defined(__SANITIZE_THREAD__)
#define LATTICED_THREAD_SANITIZER 1
#elif defined(__has_feature)
#define LATTICED_THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define LATTICED_THREAD_SANITIZER 0
#endif

namespace latticed {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  // Returns false when the time is up; spurious wake-ups happen. There is no
  // wait without a bound: a lost wake-up costs a delay, never a hang.
  bool WaitFor(Mutex& mutex, std::chrono::milliseconds timeout)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
#if LATTICED_THREAD_SANITIZER
    // The thread sanitizer of clang 14 does not know pthread_cond_clockwait.
    const bool woken = condition_.wait_until(
                           lock, std::chrono::system_clock::now() + timeout) ==
                       std::cv_status::no_timeout;
#else
    // The steady clock: a wall clock that jumps back must not stretch a wait.
    const bool woken =
        condition_.wait_for(lock, timeout) == std::cv_status::no_timeout;
#endif
    lock.release();
    return woken;
  }
  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace latticed
