// Gamma method (Wolff, hep-lat/0306017) for a primary observable of one chain.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "core/stats/log_weights.h"

namespace latticed {

struct Autocorrelation {
  double mean = 0;
  double error = 0;          // of the mean, one standard deviation
  double error_of_error = 0;
  // Integrated autocorrelation time, 1/2 for independent measurements.
  double tau_int = 0.5;
  double tau_int_error = 0;
  int64_t window = 0;        // summation window that was chosen
};

// Automatic windowing with S = 1.5 (hep-lat/0306017 eq. 52), bias corrected.
// n >= 2; a constant series has error 0 and tau_int 1/2. Pure.
Autocorrelation GammaMethod(absl::Span<const double> series,
                            double s_parameter = 1.5);

}  // namespace latticed
