#include "trainer/study/study_training.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "core/stats/log_weights.h"
#include "core/wire/atomic_file.h"
#include "google/protobuf/text_format.h"
#include "trainer/core_seconds.h"
#include "trainer/evaluate.h"
#include "trainer/loss_gradient.h"
#include "trainer/spec_file.h"
#include "trainer/state_file.h"
#include "trainer/train.h"

namespace latticed {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One process at a time trains a model. The lock goes with the process.
class TrainingLock {
 public:
  explicit TrainingLock(const std::string& path)
      : descriptor_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)),
        held_(descriptor_ >= 0 && flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {}
  ~TrainingLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  TrainingLock(const TrainingLock&) = delete;
  TrainingLock& operator=(const TrainingLock&) = delete;
  bool held() const { return held_; }

 private:
  const int descriptor_;
  const bool held_;
};

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

absl::StatusOr<v1::TrainingSpec> Plan(const StudyRun& run,
                                      const TrainOptions& options,
                                      const v1::TrainingSpec& spec) {
  const auto action = MakeAction(spec.model().action(), spec.model().lattice());
  if (!action.ok()) return action.status();
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
  const double factor = run.options.budget_minutes / minutes;
  v1::TrainingSpec plan = spec;
  uint32_t steps = 0;
  for (auto& phase : *plan.mutable_phase()) {
    const double scaled = std::floor(factor * phase.steps());
    if (scaled < 1) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--budget=%g: too small for one step of each phase of %s, where a "
          "step takes up to %.2g s; its own schedule takes %.2g minutes",
          run.options.budget_minutes, options.model, slowest, minutes));
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

std::string PlanPath(const StudyRun& run, const std::string& model) {
  return absl::StrCat(run.TrainingDirectory(), "/", model, ".textproto");
}

// Another training's number of steps, and what goes with it.
absl::StatusOr<v1::TrainingSpec> PlanLike(const std::string& path,
                                          const v1::TrainingSpec& spec) {
  auto plan = ReadTrainingSpec(path);
  if (!plan.ok()) return plan;
  *plan->mutable_model() = spec.model();
  plan->set_seed(spec.seed());
  return plan;
}

// The plan of a training that exists, or a new one.
absl::StatusOr<v1::TrainingSpec> LoadPlan(const StudyRun& run,
                                          const TrainOptions& options,
                                          const v1::TrainingSpec& spec,
                                          const std::string& steps_of) {
  const std::string path = PlanPath(run, options.model);
  if (std::ifstream(path).good()) return ReadTrainingSpec(path);
  auto plan = steps_of.empty() || steps_of == options.model
                  ? Plan(run, options, spec)
                  : PlanLike(PlanPath(run, steps_of), spec);
  if (!plan.ok()) return plan;
  std::string text;
  google::protobuf::TextFormat::PrintToString(*plan, &text);
  absl::Status written = WriteFileAtomically(path, text);
  if (!written.ok()) return written;
  return plan;
}

Row CurvePoint(const std::string& model, const v1::TrainingState& state) {
  Row row;
  row.Set("model", model)
      .Set("seconds", state.seconds())
      .Set("core_seconds", state.core_seconds())
      .Set("step", static_cast<double>(state.step()))
      .Set("draws", static_cast<double>(state.draws()));
  return row;
}

// The averaged weights on up to 16384 draws, fewer if they take longer than a
// tenth of the training so far.
absl::StatusOr<Row> Evaluated(const std::string& model,
                              const v1::ModelSpec& spec,
                              const v1::TrainingState& state) {
  constexpr uint64_t kDraws = 16384, kDrawsAtATime = 256;
  const Weights weights = ParametersToWeights(
      MakeLayout(spec),
      absl::MakeConstSpan(state.average().data(), state.average_size()));
  Row row = CurvePoint(model, state);
  std::vector<double> log_w;
  const Clock::time_point begin = Clock::now();
  while (log_w.size() < kDraws &&
         (log_w.empty() || SecondsSince(begin) < 0.1 * state.seconds())) {
    const auto more =
        HeldOutLogWeights(spec, weights, 1, log_w.size(), kDrawsAtATime,
                          absl::StrCat("curve/", model));
    // Weights this bad have no effective samples; training may mend them.
    if (!more.ok()) return row.Set("ess", 0.0).Set("acceptance", 0.0);
    log_w.insert(log_w.end(), more->begin(), more->end());
  }
  SetQuality(log_w, static_cast<double>(MakeLattice(spec.lattice()).Sites()),
             &row);
  row.Set("evaluation_draws", static_cast<double>(log_w.size()));
  return row;
}

Row FinalPoint(const Checkpoint& checkpoint) {
  const v1::Quality& quality = checkpoint.manifest.quality();
  const v1::TrainingRecord& record = checkpoint.manifest.training();
  Row row;
  row.Set("model", checkpoint.manifest.model())
      .Set("seconds", record.seconds())
      .Set("core_seconds", record.core_seconds())
      .Set("step", static_cast<double>(record.step()))
      .Set("draws", static_cast<double>(record.draws()))
      .Set("ess", Estimate{quality.ess(), quality.ess_error()})
      .Set("acceptance",
           Estimate{quality.acceptance(), quality.acceptance_error()})
      .Set("sigma2_per_site",
           Estimate{quality.sigma2_per_site(), quality.sigma2_per_site_error()})
      .Set("evaluation_draws", static_cast<double>(quality.draws()));
  return row;
}

absl::StatusOr<Checkpoint> Newest(const std::string& repository,
                                  const std::string& model) {
  const auto versions = ListVersions(repository, model);
  if (!versions.ok()) return versions.status();
  if (versions->empty()) {
    return absl::NotFoundError(
        absl::StrCat(repository, ": no published version of ", model));
  }
  return ReadVersion(repository, model, versions->back());
}

}  // namespace

void SetQuality(const std::vector<double>& log_w, double sites, Row* row) {
  const Estimate variance = LogWeightVariance(log_w);
  row->Set("ess", Ess(log_w))
      .Set("acceptance", Acceptance(log_w))
      .Set("sigma2_per_site",
           Estimate{variance.value / sites, variance.error / sites});
}

std::vector<Column> QualityColumns() {
  return Join({EstimateColumns("ess", "effective sample size per draw"),
               EstimateColumns("acceptance",
                               "of independence Metropolis at equilibrium"),
               EstimateColumns("sigma2_per_site", "Var(log w) / V")});
}

std::vector<Column> CurveColumns() {
  return Join({{{"model", "the name it is published under"},
                {"seconds", "wall time of training so far"},
                {"core_seconds", "processor time of training so far"},
                {"step", "of the optimizer"},
                {"draws", "configurations drawn in training"}},
               QualityColumns(),
               {{"evaluation_draws", "held-out draws of these figures"}}});
}

absl::StatusOr<StudyFlow> TrainedFlow(const StudyRun& run,
                                      const std::string& model,
                                      const v1::TrainingSpec& spec,
                                      const std::string& steps_of) {
  TrainOptions options;
  options.repository = run.ModelDirectory();
  options.model = model;
  options.state_directory = run.TrainingDirectory();
  options.command = run.options.command;
  const std::string lock_path =
      absl::StrCat(run.TrainingDirectory(), "/", model, ".lock");
  const TrainingLock lock(lock_path);
  if (!lock.held()) {
    return absl::FailedPreconditionError(absl::StrCat(
        lock_path, ": another process trains ", model,
        ", or the folder cannot be written; run the study again when it is "
        "done"));
  }
  // A state whose plan is gone belongs to a training that somebody dropped.
  options.restart = !std::ifstream(PlanPath(run, model)).good();
  const auto plan = LoadPlan(run, options, spec, steps_of);
  if (!plan.ok()) return plan.status();
  const std::string settings = "training";
  const std::string curve_path =
      absl::StrCat(run.TrainingDirectory(), "/", model, ".json");
  const std::string state_path =
      absl::StrCat(run.TrainingDirectory(), "/", model, ".state");

  auto rows = ReadRows(curve_path, settings);
  if (!rows.ok() && !absl::IsNotFound(rows.status())) return rows.status();
  std::vector<Row> curve;
  if (rows.ok()) curve = std::move((*rows)["curve"]);
  auto published = Newest(options.repository, model);
  const auto metrics = TrainerMetrics::Create("", model);
  if (!metrics.ok()) return metrics.status();
  constexpr double kFirst = 2, kRatio = 1.5;  // s
  bool first_segment = true;
  while (!published.ok()) {
    const auto state = ReadTrainingState(state_path);
    const double seconds =
        state.ok() && !options.restart ? state->seconds() : 0;
    // A killed process may have left points beyond its last saved state.
    std::erase_if(curve, [seconds](const Row& row) {
      return row.Number("seconds") > seconds;
    });
    double next = kFirst;
    while (next <= seconds) next *= kRatio;
    options.minutes_max = (next - seconds) / 60;
    options.say_resuming = first_segment;
    first_segment = false;
    const auto outcome =
        Train(options, *plan, run.progress, metrics->get(), *run.stop);
    if (!outcome.ok()) return outcome.status();
    options.restart = false;
    if (*outcome == TrainOutcome::kFinished) {
      published = Newest(options.repository, model);
      if (!published.ok()) return published.status();
      break;
    }
    if (run.stop->load()) {
      return absl::CancelledError(
          absl::StrCat(model, ": interrupted, state saved"));
    }
    const auto now = ReadTrainingState(state_path);
    if (!now.ok()) return now.status();
    constexpr int64_t kStepsMin = 20;  // before, nothing is learned yet
    if (now->step() < kStepsMin) continue;
    auto row = Evaluated(model, plan->model(), *now);
    if (!row.ok()) return row.status();
    run.progress->Say(absl::StrFormat("%s: after %s: ess %.4f acceptance %.4f",
                                      model, DurationName(now->seconds()),
                                      row->Number("ess"),
                                      row->Number("acceptance")));
    curve.push_back(*std::move(row));
    if (absl::Status written =
            WriteRows(curve_path, settings, {{"curve", curve}});
        !written.ok()) {
      return written;
    }
  }
  Row last = FinalPoint(*published);
  if (curve.empty() || curve.back().Number("step") < last.Number("step")) {
    curve.push_back(std::move(last));
    if (absl::Status written =
            WriteRows(curve_path, settings, {{"curve", curve}});
        !written.ok()) {
      return written;
    }
  }
  return StudyFlow{*std::move(published), std::move(curve)};
}

absl::StatusOr<StudyFlow> FlowOf(const StudyRun& run, FlowKind kind,
                                 int64_t l) {
  const std::string model = StudyModel(kind, l);
  if (kind != FlowKind::kGated || run.options.repository.empty()) {
    return TrainedFlow(run, model, StudySpec(kind, l));
  }
  auto checkpoint = Newest(run.options.repository, model);
  if (!checkpoint.ok()) {
    return absl::Status(
        checkpoint.status().code(),
        absl::StrCat(checkpoint.status().message(),
                     "; train it there, or leave out --repository to have it "
                     "trained in --output"));
  }
  return StudyFlow{*std::move(checkpoint), {}};
}

}  // namespace latticed
