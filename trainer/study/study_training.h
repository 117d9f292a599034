// The trainings of a study: scaled to a budget, resumed, with the quality of
// the averaged weights on the way.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/repository.h"
#include "latticed/v1/spec.pb.h"
#include "trainer/study/ensembles.h"
#include "trainer/study/study.h"

namespace latticed {

struct StudyFlow {
  Checkpoint checkpoint;
  // Columns of CurveColumns(); empty for a flow of options.repository.
  std::vector<Row> curve;
};

// ess, acceptance and sigma2_per_site with errors; a point on a training's
// curve, of its averaged weights.
std::vector<Column> QualityColumns();
std::vector<Column> CurveColumns();

// Sets QualityColumns() from weights on a lattice of so many sites.
void SetQuality(const std::vector<double>& log_w, double sites, Row* row);

// Trains `model` by its plan (training_plan.h), evaluates its averaged weights
// after 5, 8, 12, 18, ... steps and publishes it in run.ModelDirectory(). A
// training that exists is used or continued as it was planned, whatever the
// budget now. FAILED_PRECONDITION if what exists is of another flow than
// `spec`, or another process trains it.
absl::StatusOr<StudyFlow> TrainedFlow(const StudyRun& run,
                                      const std::string& model,
                                      const v1::TrainingSpec& spec,
                                      const std::string& steps_of = "");

// The flow of this kind and lattice: gated flows from options.repository, if
// there is one, others trained, those of the ablation with the steps of its
// first. NOT_FOUND says how to get what is missing.
absl::StatusOr<StudyFlow> FlowOf(const StudyRun& run, FlowKind kind, int64_t l,
                                 int seed = 1);

// The same action and lattice.
bool SameEnsemble(const v1::ModelSpec& a, const v1::ModelSpec& b);

}  // namespace latticed
