// Who of several processes still runs: each counts up a number of its own that
// all can read, whatever else it is doing.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"

namespace latticed {

class Heartbeats {
 public:
  // Adds to a process's number and returns the sum; may be called by several
  // threads at a time, throw, or never return.
  using Count = std::function<int64_t(int rank, int64_t add)>;

  // Counts for `rank` from now on, ten times a `window`.
  Heartbeats(int rank, int size, std::chrono::milliseconds window, Count count);
  ~Heartbeats();

  // The processes that do not count for the length of a window. UNAVAILABLE
  // if `count` throws or takes several windows.
  absl::StatusOr<std::vector<int>> Silent();

 private:
  struct Shared;

  const int rank_;
  const int size_;
  const std::chrono::milliseconds window_;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace latticed
