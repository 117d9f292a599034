// Time that has passed, whatever becomes of the wall clock.
#pragma once

#include <chrono>

#include "absl/time/time.h"

namespace latticed {

// From its construction on. Thread-compatible.
class Stopwatch {
 public:
  absl::Duration Elapsed() const {
    return absl::FromChrono(std::chrono::steady_clock::now() - start_);
  }

 private:
  std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();
};

}  // namespace latticed
