// Numbers and physics as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/stats/log_weights.h"
#include "latticed/v1/sampler.pb.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

// Both with the decimals that give the error two significant digits:
// {"1.0631", "0.0014"}. A zero or non-finite error leaves six digits.
struct ValueAndError {
  std::string value;
  std::string error;
};
ValueAndError Format(const Estimate& estimate);

std::string FormatRate(double per_second);      // "3.2e+04" never: "32 100"
std::string FormatSeconds(double seconds);      // "0.84 s", "3 min 12 s"
std::string FormatLattice(const v1::Lattice&);  // "8x8"
std::string FormatAction(const v1::Action&);    // "phi4 m2=-4 lambda=6.008"
std::string Hex(absl::string_view bytes);
// "phi4-l8 version 3 (digest 0123456789ab), stream 24 hex digits"
std::string FormatProvenance(const v1::Provenance& provenance);

// Columns padded to their widest cell, two spaces apart; the columns in
// `right` (by index) are right-aligned.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows,
                        const std::vector<size_t>& right);

}  // namespace latticed
