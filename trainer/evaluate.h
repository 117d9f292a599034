// Held-out quality of a flow: what decides a publication and goes into the
// manifest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/weights.h"
#include "latticed/v1/manifest.pb.h"
#include "trainer/process_group.h"

namespace latticed {

struct Evaluation {
  v1::Quality quality;
  double log_w_mean = 0;
};

// log w of draws 0..draws-1 of the named stream, with step_factor times the
// spec's RK4 steps; non-finite ones as they are.
absl::StatusOr<std::vector<double>> HeldOutLogWeights(
    const v1::ModelSpec& spec, const Weights& weights, int step_factor,
    uint64_t draws, const std::string& stream_name,
    ProcessGroup* group = nullptr);

// Draws 0..draws-1 of the named stream `stream_name`, once with the spec's
// number of RK4 steps and once with twice as many from the same base draws.
// Non-finite draws make it FAILED_PRECONDITION. The processes of a `group` do
// it together, and each gets the same bits that one alone would.
absl::StatusOr<Evaluation> Evaluate(const v1::ModelSpec& spec,
                                    const Weights& weights, uint64_t draws,
                                    const std::string& stream_name,
                                    ProcessGroup* group = nullptr);

}  // namespace latticed
