// Figures of the draws between two reports of a training.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/stats/log_weights.h"
#include "trainer/process_group.h"

namespace latticed {

class Window {
 public:
  void Add(double log_w);

  uint64_t draws() const { return draws_; }  // finite ones
  double Ess() const { return weights_.Ess(); }
  double LogMeanWeight() const;  // log of the mean of w: log Z
  // Of log w.
  double Mean() const;
  double Variance() const;

  // That of all processes' draws, to rounding whatever their number.
  // DATA_LOSS if their `parameters` are not the same bytes.
  absl::StatusOr<Window> OfAll(ProcessGroup* group,
                               absl::string_view parameters) const;

 private:
  WeightSums weights_;
  // Sums over finite log w, less the first one.
  double first_ = 0, sum_ = 0, squares_ = 0;
  uint64_t draws_ = 0;
};

}  // namespace latticed
