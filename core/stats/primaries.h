// The quantities that observables are functions of the means of. For the
// sources of this folder only.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "core/stats/observables.h"

namespace latticed {

// Gt(0..L_1/2) starts at kGt.
enum Primary { kM2, kAbsM, kM4, kPhi2, kLink, kFMin, kAction, kGt };

int64_t PrimaryCount(int64_t l1);
double PrimaryOf(const Measurement& measurement, int64_t primary);

// In the order of ObservableNames, at given means of the primary quantities.
std::vector<double> ObservablesAt(absl::Span<const double> mean, int64_t l0,
                                  int64_t l1);

std::map<std::string, Estimate> NamedEstimates(
    int64_t l1, const std::vector<Estimate>& estimates);

}  // namespace latticed
