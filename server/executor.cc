#include "server/executor.h"

#include <chrono>
#include <utility>

namespace latticed {

Executor::Executor(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

Executor::~Executor() { Stop(); }

void Executor::Post(std::function<void()> function) {
  MutexLock lock(mutex_);
  if (stopped_) return;
  queue_.push_back(std::move(function));
  posted_.NotifyOne();
}

void Executor::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    posted_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Executor::Run() {
  while (true) {
    std::function<void()> function;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopped_) {
        posted_.WaitFor(mutex_, std::chrono::seconds(1));
      }
      if (queue_.empty()) return;
      function = std::move(queue_.front());
      queue_.pop_front();
    }
    function();
  }
}

}  // namespace latticed
