// Running sums of measurements: every observable with its jackknife error from
// memory that does not grow with the number of measurements.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "core/stats/log_weights.h"
#include "core/stats/observables.h"

namespace latticed {

// Weighted sums of what is averaged: M^2, |M|, M^4, phi^2, link, F, S/V, Gt.
// Thread-compatible.
class ObservableSums {
 public:
  ObservableSums(int64_t l0, int64_t l1);

  // Requires a finite weight >= 0.
  void Add(const Measurement& measurement, double weight = 1);
  // Requires the same lattice.
  void Merge(const ObservableSums& other);

  int64_t l0() const { return l0_; }
  int64_t l1() const { return l1_; }
  double weight() const { return weight_; }
  // The mean of one primary quantity is sums()[p] / weight().
  absl::Span<const double> sums() const { return sums_; }

 private:
  int64_t l0_;
  int64_t l1_;
  double weight_ = 0;
  std::vector<double> sums_;
};

// Delete-one-block jackknife over independent blocks of one lattice: of
// independent measurements, or of stretches of a chain that are much longer
// than its autocorrelation time. Keys and the undetermined as in
// observables.h; no blocks, or no weight, gives an empty map.
std::map<std::string, Estimate> EstimateBlocks(
    absl::Span<const ObservableSums> blocks);

}  // namespace latticed
