// What the command line and the spec file say, checked.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "latticed/v1/spec.pb.h"
#include "trainer/train.h"

namespace latticed {

// Text format; an error names file, line, column and what is wrong. The
// contents are validated by Train.
absl::StatusOr<v1::TrainingSpec> ReadTrainingSpec(const std::string& path);

absl::Status ValidateTrainOptions(const TrainOptions& options,
                                  const std::string& spec_path);

}  // namespace latticed
