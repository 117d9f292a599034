// The integrated autocorrelation time of a long series from bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/stats/log_weights.h"

namespace latticed {

// Keeps means over bins of 2^k elements, at most 4096 of them; neighbours are
// merged in pairs when there are more. Thread-compatible.
class BinnedSeries {
 public:
  static constexpr size_t kBinsMax = 4096;

  void Add(double value);  // finite
  uint64_t size() const { return size_; }
  // In elements, 1/2 for independent ones, by the Gamma method over the bins:
  // error^2 n / (2 variance). Infinite error for fewer than two bins; 1/2 for a
  // constant series.
  Estimate TauInt() const;

 private:
  uint64_t size_ = 0;
  // Relative to the first value: exact for a constant series.
  double origin_ = 0;
  double sum_ = 0;
  double squares_ = 0;
  uint64_t bin_size_ = 1;
  uint64_t open_size_ = 0;
  double open_ = 0;
  std::vector<double> bins_;  // sums
};

}  // namespace latticed
