// What a study's training will do: its spec with phases scaled to the budget,
// written down before the first step.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "latticed/v1/spec.pb.h"
#include "trainer/study/study.h"

namespace latticed {

// <trainings>/<model>.textproto
std::string PlanPath(const StudyRun& run, const std::string& model);

// The plan that is written, or a new one: `spec` with phases scaled to the
// budget by the processor time of a step (gated flows: down only), or with the
// phases of the plan of
// `steps_of`, and what goes with their length. A new plan drops what an older
// training of the model left. INVALID_ARGUMENT if the budget is too small for
// one step of each phase, FAILED_PRECONDITION if the written plan is of another
// flow than `spec`.
absl::StatusOr<v1::TrainingSpec> LoadPlan(const StudyRun& run,
                                          const std::string& model,
                                          const v1::TrainingSpec& spec,
                                          const std::string& steps_of);

}  // namespace latticed
