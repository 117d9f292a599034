// Sums of a measurement as they come over the wire, and what they amount to.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "core/stats/block_sums.h"
#include "core/stats/log_weights.h"
#include "latticed/v1/measure.pb.h"

namespace latticed {

// INTERNAL if sizes or values contradict each other.
absl::StatusOr<BlockSums> Decode(const v1::MeasureSums& sums,
                                 const v1::Lattice& lattice, bool chain);

// A measurement so far.
struct Measured {
  std::map<std::string, Estimate> observables;  // those asked for
  Estimate log_z;
  Estimate ess;        // per draw
  double tau_int = 0;  // of chi_2 in steps, chains only
  uint64_t draws = 0;  // or steps; non-finite ones included
  uint64_t non_finite = 0;
  uint64_t accepted = 0;  // steps that moved, chains only
};

// By the jackknife over blocks; "log_Z" among the names is left to its field.
Measured MeasuredFrom(
    const BlockSums& sums,
    const google::protobuf::RepeatedPtrField<std::string>& names);

// Whether the budget's relative error or effective samples are reached; as the
// server does, not before 1024 draws.
bool Reached(const Measured& measured, const v1::MeasureRequest& request);

}  // namespace latticed
