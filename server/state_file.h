// The server's memory of versions it judged: <state_directory>/versions.json.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "latticed/v1/state.pb.h"

namespace latticed {

inline constexpr int kJudgementsMax = 4096;

// Empty if there is no file yet. DATA_LOSS if it is none of ours or damaged;
// else why it cannot be read.
absl::StatusOr<v1::ServerState> ReadServerState(const std::string& directory);

// Complete or not at all; drops the oldest judgements beyond kJudgementsMax.
absl::Status WriteServerState(const std::string& directory,
                              v1::ServerState state);

}  // namespace latticed
