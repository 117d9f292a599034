// The trainer's own checkpoint: a v1::TrainingState in one file, replaced
// atomically, that ends in the SHA-256 of what comes before.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

// NOT_FOUND if there is none, DATA_LOSS if it is damaged, else errno's code if
// it cannot be read.
absl::StatusOr<v1::TrainingState> ReadTrainingState(const std::string& path);
absl::Status WriteTrainingState(const std::string& path,
                                const v1::TrainingState& state);

// SHA-256 (hex) of what fixes a run's arithmetic; the number of threads counts
// too, since it orders the sums over a batch.
std::string TrainingFingerprint(const v1::TrainingSpec& spec, int threads);

}  // namespace latticed
