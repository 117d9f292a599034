// Gamma method (Wolff, hep-lat/0306017) for a primary observable of one chain.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "core/stats/log_weights.h"

namespace latticed {

inline constexpr int64_t kWindowMax = 10000;

struct Autocorrelation {
  double mean = 0;
  double error = 0;  // of the mean, one standard deviation
  double error_of_error = 0;
  // Integrated autocorrelation time, 1/2 for independent measurements.
  double tau_int = 0.5;
  double tau_int_error = 0;
  int64_t window = 0;  // summation window that was chosen
};

// Automatic windowing with S = 1.5 (hep-lat/0306017 eq. 52), bias corrected.
// A constant series has error 0 and tau_int 1/2; fewer than two measurements
// have an infinite error. Costs n times the window. A window of n/2 means that
// the series is too short for its autocorrelation, one of kWindowMax that it
// should be thinned first: the error is then too small. Pure.
Autocorrelation GammaMethod(absl::Span<const double> series,
                            double s_parameter = 1.5);

}  // namespace latticed
