#include "trainer/study/study_training.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/factory.h"
#include "core/stats/log_weights.h"
#include "google/protobuf/util/message_differencer.h"
#include "trainer/evaluate.h"
#include "trainer/state_file.h"
#include "trainer/study/training_plan.h"
#include "trainer/train.h"

namespace latticed {
namespace {

// One process at a time trains a model. The lock goes with the process.
class TrainingLock {
 public:
  explicit TrainingLock(const std::string& path)
      : descriptor_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) {
      status_ = absl::ErrnoToStatus(errno, path);
    } else if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      status_ = absl::FailedPreconditionError(
          absl::StrCat(path,
                       ": another process trains this flow; run the "
                       "study again when it is done"));
    }
  }
  ~TrainingLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  TrainingLock(const TrainingLock&) = delete;
  TrainingLock& operator=(const TrainingLock&) = delete;
  const absl::Status& status() const { return status_; }

 private:
  const int descriptor_;
  absl::Status status_;
};

Row CurvePoint(const std::string& model, const v1::TrainingState& state) {
  Row row;
  row.Set("model", model)
      .Set("seconds", state.seconds())
      .Set("core_seconds", state.core_seconds())
      .Set("step", static_cast<double>(state.step()))
      .Set("draws", static_cast<double>(state.draws()));
  return row;
}

absl::StatusOr<Row> Evaluated(const std::string& model,
                              const v1::TrainingSpec& plan,
                              const v1::TrainingState& state) {
  // Fewer than at the end, so that all of these, about twenty, cost less.
  const uint64_t draws =
      std::clamp<uint64_t>(plan.evaluation_draws() / 16, 1024, 16384);
  const v1::ModelSpec& spec = plan.model();
  const Weights weights = ParametersToWeights(
      MakeLayout(spec),
      absl::MakeConstSpan(state.average().data(), state.average_size()));
  const auto log_w =
      HeldOutLogWeights(spec, weights, 1, draws, absl::StrCat("curve/", model));
  if (!log_w.ok()) return log_w.status();
  Row row = CurvePoint(model, state);
  SetQuality(*log_w, static_cast<double>(MakeLattice(spec.lattice()).Sites()),
             &row);
  row.Set("evaluation_draws", static_cast<double>(draws));
  return row;
}

// 5, 8, 12, 18, ...: the first of them beyond `step`.
int64_t NextPoint(int64_t step) {
  int64_t next = 5;
  while (next <= step) next += (next + 1) / 2;
  return next;
}
bool IsPoint(int64_t step) { return step > 0 && NextPoint(step - 1) == step; }

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

// The points of a training so far, and their file.
class Curve {
 public:
  Curve(const StudyRun& run, const std::string& model)
      : path_(absl::StrCat(run.TrainingDirectory(), "/", model, ".json")) {}

  absl::Status Read() {
    auto rows = ReadRows(path_, kSettings);
    if (absl::IsNotFound(rows.status())) return absl::OkStatus();
    if (rows.ok()) points_ = std::move((*rows)["curve"]);
    return rows.status();
  }
  absl::Status Add(Row point) {
    points_.push_back(std::move(point));
    return WriteRows(path_, kSettings, {{"curve", points_}});
  }
  void DropAfter(int64_t step) {
    std::erase_if(points_, [step](const Row& point) {
      return point.Number("step") > static_cast<double>(step);
    });
  }
  double LastStep() const {
    return points_.empty() ? 0 : points_.back().Number("step");
  }
  const std::vector<Row>& points() const { return points_; }

 private:
  static constexpr char kSettings[] = "training";
  const std::string path_;
  std::vector<Row> points_;
};

// From its saved state, if there is one, until it is published.
absl::Status TrainByPlan(const StudyRun& run, const std::string& model,
                         const v1::TrainingSpec& plan) {
  TrainOptions options;
  options.repository = run.ModelDirectory();
  options.model = model;
  options.state_directory = run.TrainingDirectory();
  options.command = run.options.command;
  Curve curve(run, model);
  if (absl::Status read = curve.Read(); !read.ok()) return read;
  const auto metrics = TrainerMetrics::Create("", model);
  if (!metrics.ok()) return metrics.status();
  while (true) {
    const auto state = ReadTrainingState(
        absl::StrCat(options.state_directory, "/", model, ".state"));
    if (!state.ok() && !absl::IsNotFound(state.status())) {
      return state.status();
    }
    const int64_t step = state.ok() ? state->step() : 0;
    // A killed process may have left points beyond its last saved state.
    curve.DropAfter(step);
    if (IsPoint(step) && curve.LastStep() < static_cast<double>(step)) {
      auto row = Evaluated(model, plan, *state);
      if (!row.ok()) return row.status();
      run.progress->Say(
          absl::StrFormat("%s: step %d, %s: ess %.4f acceptance %.4f", model,
                          step, DurationName(state->seconds()),
                          row->Number("ess"), row->Number("acceptance")));
      if (absl::Status added = curve.Add(*std::move(row)); !added.ok()) {
        return added;
      }
    }
    options.stop_at_step = NextPoint(step);
    const auto outcome =
        Train(options, plan, run.progress, metrics->get(), *run.stop);
    if (!outcome.ok()) {
      return absl::Status(
          outcome.status().code(),
          absl::StrCat(model, ": ", outcome.status().message(),
                       "; a study continues with the --threads it began with, "
                       "and trains a flow again if ",
                       PlanPath(run, model), " is removed"));
    }
    if (*outcome == TrainOutcome::kFinished) return absl::OkStatus();
    if (run.stop->load()) {
      return absl::CancelledError(
          absl::StrCat(model, ": interrupted, state saved"));
    }
    options.say_resuming = false;
  }
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
  const TrainingLock lock(
      absl::StrCat(run.TrainingDirectory(), "/", model, ".lock"));
  if (!lock.status().ok()) return lock.status();
  auto published = Newest(run.ModelDirectory(), model);
  if (absl::IsNotFound(published.status())) {
    const auto plan = LoadPlan(run, model, spec, steps_of);
    if (!plan.ok()) return plan.status();
    if (absl::Status trained = TrainByPlan(run, model, *plan); !trained.ok()) {
      return trained;
    }
    published = Newest(run.ModelDirectory(), model);
  }
  if (!published.ok()) return published.status();
  using google::protobuf::util::MessageDifferencer;
  if (!MessageDifferencer::Equals(published->manifest.spec(), spec.model())) {
    return absl::FailedPreconditionError(
        absl::StrCat(run.ModelDirectory(), "/", model,
                     " is of another flow than this build's; remove it and ",
                     PlanPath(run, model), " to train it again"));
  }
  Curve curve(run, model);
  if (absl::Status read = curve.Read(); !read.ok()) return read;
  Row last = FinalPoint(*published);
  if (curve.LastStep() < last.Number("step")) {
    if (absl::Status added = curve.Add(std::move(last)); !added.ok()) {
      return added;
    }
  }
  return StudyFlow{*std::move(published), curve.points()};
}

absl::StatusOr<StudyFlow> FlowOf(const StudyRun& run, FlowKind kind, int64_t l,
                                 int seed) {
  const std::string model = StudyModel(kind, l, seed);
  v1::TrainingSpec spec = StudySpec(kind, l);
  if (IsAblation(kind)) {
    spec.set_seed(seed);
    return TrainedFlow(run, model, spec, StudyModel(FlowKind::kFull, l));
  }
  if (kind != FlowKind::kGated || run.options.repository.empty()) {
    return TrainedFlow(run, model, spec);
  }
  auto checkpoint = Newest(run.options.repository, model);
  if (!checkpoint.ok()) {
    return absl::Status(
        checkpoint.status().code(),
        absl::StrCat(checkpoint.status().message(),
                     "; train it there, or leave out --repository to have it "
                     "trained in --output"));
  }
  const v1::ModelSpec& given = checkpoint->manifest.spec();
  if (!given.flow().has_equivariant() || !SameEnsemble(given, spec.model())) {
    return absl::FailedPreconditionError(absl::StrCat(
        run.options.repository, "/", model, ": not the gated flow of ",
        spec.model().action().ShortDebugString(), " on ", l, "x", l));
  }
  return StudyFlow{*std::move(checkpoint), {}};
}

bool SameEnsemble(const v1::ModelSpec& a, const v1::ModelSpec& b) {
  using google::protobuf::util::MessageDifferencer;
  return MessageDifferencer::Equals(a.action(), b.action()) &&
         MessageDifferencer::Equals(a.lattice(), b.lattice());
}

}  // namespace latticed
