// Statistical checks at a fixed seed. Five standard deviations: a correct
// program fails once in two million checks, and a fixed seed makes that once
// or never.
#pragma once

#include <cmath>
#include <sstream>

#include "gmock/gmock.h"

namespace latticed {

// A number within `sigmas` standard deviations of the expected one:
// EXPECT_THAT(mean, IsWithinErrors(0.0, 1 / std::sqrt(n)));
MATCHER_P3(IsWithinErrors, expected, error, sigmas, "") {
  *result_listener << "which is " << (arg - expected) / error
                   << " standard deviations from " << expected;
  return std::isfinite(static_cast<double>(arg)) && error > 0 &&
         std::abs(arg - expected) <= sigmas * error;
}
inline auto IsWithinErrors(double expected, double error) {
  return IsWithinErrors(expected, error, 5.0);
}

// The same against a value that has an error of its own.
inline double CombinedError(double a, double b) { return std::hypot(a, b); }

}  // namespace latticed
