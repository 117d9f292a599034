#include "trainer/heartbeats.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace latticed {

// Of threads that are left behind if `count` does not return.
struct Heartbeats::Shared {
  Count count;
  std::mutex mutex;
  std::condition_variable changed;
  bool stop = false;
  bool counting = true;
};

Heartbeats::Heartbeats(int rank, int size, std::chrono::milliseconds window,
                       Count count)
    : rank_(rank),
      size_(size),
      window_(window),
      shared_(std::make_shared<Shared>()) {
  shared_->count = std::move(count);
  std::thread([shared = shared_, rank, pause = window / 10] {
    try {
      std::unique_lock<std::mutex> lock(shared->mutex);
      while (!shared->stop) {
        lock.unlock();
        shared->count(rank, 1);
        lock.lock();
        shared->changed.wait_for(lock, pause, [&] { return shared->stop; });
      }
    } catch (const std::exception&) {
      // The next exchange fails too, and says so.
    }
    const std::lock_guard<std::mutex> lock(shared->mutex);
    shared->counting = false;
    shared->changed.notify_all();
  }).detach();
}

Heartbeats::~Heartbeats() {
  std::unique_lock<std::mutex> lock(shared_->mutex);
  shared_->stop = true;
  shared_->changed.notify_all();
  shared_->changed.wait_for(lock, window_, [&] { return !shared_->counting; });
}

absl::StatusOr<std::vector<int>> Heartbeats::Silent() {
  struct Answer {
    std::mutex mutex;
    std::condition_variable given;
    std::optional<absl::StatusOr<std::vector<int>>> silent;
  };
  const auto answer = std::make_shared<Answer>();
  std::thread([answer, shared = shared_, rank = rank_, size = size_,
               window = window_] {
    absl::StatusOr<std::vector<int>> silent = std::vector<int>();
    try {
      std::vector<int64_t> before(size);
      for (int i = 0; i < size; ++i) before[i] = shared->count(i, 0);
      std::this_thread::sleep_for(window);
      for (int i = 0; i < size; ++i) {
        if (i != rank && shared->count(i, 0) == before[i]) {
          silent->push_back(i);
        }
      }
    } catch (const std::exception& error) {
      silent = absl::UnavailableError(error.what());
    }
    const std::lock_guard<std::mutex> lock(answer->mutex);
    answer->silent = std::move(silent);
    answer->given.notify_all();
  }).detach();
  std::unique_lock<std::mutex> lock(answer->mutex);
  if (!answer->given.wait_for(lock, 4 * window_,
                              [&] { return answer->silent.has_value(); })) {
    return absl::UnavailableError("no answer");
  }
  return *answer->silent;
}

}  // namespace latticed
