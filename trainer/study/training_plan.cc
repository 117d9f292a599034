#include "trainer/study/training_plan.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "core/wire/atomic_file.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "trainer/core_seconds.h"
#include "trainer/loss_gradient.h"
#include "trainer/optimizer.h"
#include "trainer/spec_file.h"
#include "trainer/train.h"

namespace latticed {
namespace {

// Of one step with this batch from the parameters a training starts with: by
// processor time, so that a busy machine does not make the training shorter.
double StepSeconds(const v1::TrainingSpec& spec, const Action& action,
                   const v1::TrainingState& start, int64_t batch) {
  const auto gradient = MakeLossGradient(spec.model(), action);
  const absl::Span<const float> parameters(start.parameters().data(),
                                           start.parameters_size());
  const StreamId stream = NamedStream("study/step time");
  gradient->Compute(parameters, stream, 0, batch);  // allocates
  constexpr double kLongEnough = 0.5;
  constexpr int kMost = 50;
  const double begin = CoreSeconds();
  const auto seconds = [begin] {
    return (CoreSeconds() - begin) / ComputeThreads();
  };
  int steps = 0;
  do {
    gradient->Compute(parameters, stream, 0, batch);
  } while (++steps < kMost && seconds() < kLongEnough);
  return seconds() / steps;
}

absl::StatusOr<v1::TrainingSpec> PlanForBudget(const StudyRun& run,
                                               const std::string& model,
                                               const v1::TrainingSpec& spec) {
  const auto action = MakeAction(spec.model().action(), spec.model().lattice());
  if (!action.ok()) return action.status();
  TrainOptions options;
  options.repository = run.ModelDirectory();
  options.model = model;
  const auto start = StartState(options, spec);
  if (!start.ok()) return start.status();
  double seconds = 0, slowest = 0;
  for (const auto& phase : spec.phase()) {
    const double step = StepSeconds(spec, **action, *start, phase.batch());
    seconds += step * phase.steps();
    slowest = std::max(slowest, step);
  }
  // A tenth is for evaluations on the way.
  const double minutes = seconds / 60 / 0.9;
  double factor = run.options.budget_minutes / minutes;
  // Far beyond its recipe's length, frequencies of the gated flow's features
  // run into one another and it breaks
  // (docs/decisions/0003-training-recipe.md).
  if (spec.model().flow().has_equivariant() && factor > 1) {
    run.progress->Say(absl::StrFormat(
        "%s: its recipe takes %.2g minutes, no longer whatever --budget", model,
        minutes));
    factor = 1;
  }
  v1::TrainingSpec plan = spec;
  uint32_t steps = 0;
  for (auto& phase : *plan.mutable_phase()) {
    const double scaled = std::floor(factor * phase.steps());
    if (scaled < 1) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--budget=%g: too small for one step of each phase of %s, where a "
          "step takes up to %.2g s; its own schedule takes %.2g minutes",
          run.options.budget_minutes, model, slowest, minutes));
    }
    phase.set_steps(static_cast<uint32_t>(std::min(scaled, 1e7)));
    steps += phase.steps();
  }
  plan.set_warmup_steps(std::min(plan.warmup_steps(), steps / 10));
  plan.set_clip_warmup_steps(std::min(plan.clip_warmup_steps(), steps / 10));
  const auto every = [slowest](double interval) {
    return static_cast<uint32_t>(std::clamp(interval / slowest, 1.0, 1e6));
  };
  plan.set_log_every_steps(every(5));
  plan.set_checkpoint_every_steps(every(30));
  // A draw with N and with 2N steps costs about as much as one in training;
  // a tenth of the budget at most.
  const double draw = slowest / plan.phase(plan.phase_size() - 1).batch();
  plan.set_evaluation_draws(static_cast<uint32_t>(
      std::clamp(0.1 * 60 * run.options.budget_minutes / draw, 1024.0,
                 static_cast<double>(run.options.draws))));
  return plan;
}

absl::StatusOr<v1::TrainingSpec> PlanLike(const StudyRun& run,
                                          const std::string& steps_of,
                                          const v1::TrainingSpec& spec) {
  auto plan = ReadTrainingSpec(PlanPath(run, steps_of));
  if (absl::IsNotFound(plan.status())) {
    return absl::NotFoundError(
        absl::StrCat(PlanPath(run, steps_of), " is missing: the training of ",
                     steps_of, " comes first, its number of steps is taken"));
  }
  if (!plan.ok()) return plan;
  *plan->mutable_model() = spec.model();
  plan->set_seed(spec.seed());
  return plan;
}

}  // namespace

std::string PlanPath(const StudyRun& run, const std::string& model) {
  return absl::StrCat(run.TrainingDirectory(), "/", model, ".textproto");
}

absl::StatusOr<v1::TrainingSpec> LoadPlan(const StudyRun& run,
                                          const std::string& model,
                                          const v1::TrainingSpec& spec,
                                          const std::string& steps_of) {
  // Before anything is allocated by it.
  if (absl::Status valid = ValidateTrainingSpec(spec); !valid.ok()) {
    return absl::Status(valid.code(),
                        absl::StrCat(model, ": ", valid.message()));
  }
  const std::string path = PlanPath(run, model);
  std::error_code error;
  if (std::filesystem::exists(path, error) || error) {
    auto plan = ReadTrainingSpec(path);
    if (!plan.ok()) return plan;
    if (!google::protobuf::util::MessageDifferencer::Equals(plan->model(),
                                                            spec.model())) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, ": planned for another flow than this build's ", model,
          "; remove it and the published ", run.ModelDirectory(), "/", model,
          " to train again, or use another --output"));
    }
    run.progress->Say(absl::StrFormat(
        "%s: trained by the plan that is there, %d steps, whatever --budget; "
        "without %s a new one is made",
        model, TotalSteps(*plan), path));
    return plan;
  }
  auto plan = steps_of.empty() || steps_of == model
                  ? PlanForBudget(run, model, spec)
                  : PlanLike(run, steps_of, spec);
  if (plan.ok()) {
    if (absl::Status valid = ValidateTrainingSpec(*plan); !valid.ok()) {
      return valid;
    }
    // Before the plan is there: a crash in between finds none of both.
    for (const char* old : {".state", ".json"}) {
      std::filesystem::remove(
          absl::StrCat(run.TrainingDirectory(), "/", model, old), error);
    }
    std::string text;
    google::protobuf::TextFormat::PrintToString(*plan, &text);
    const std::string origin =
        steps_of.empty() || steps_of == model
            ? absl::StrFormat("--budget=%g minutes", run.options.budget_minutes)
            : absl::StrCat("the steps of ", steps_of);
    absl::Status written = WriteFileAtomically(
        path, absl::StrCat("# ", model, ": planned by ", origin, "\n", text));
    if (!written.ok()) return written;
  }
  return plan;
}

}  // namespace latticed
