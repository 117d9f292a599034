#include "trainer/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "core/stats/log_weights.h"
#include "google/protobuf/util/message_differencer.h"
#include "trainer/core_seconds.h"
#include "trainer/evaluate.h"
#include "trainer/loss_gradient.h"
#include "trainer/optimizer.h"
#include "trainer/state_file.h"

namespace latticed {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void Assign(const std::vector<float>& values,
            google::protobuf::RepeatedField<float>* field) {
  field->Assign(values.begin(), values.end());
}

absl::Span<const float> Values(
    const google::protobuf::RepeatedField<float>& field) {
  return absl::MakeConstSpan(field.data(), field.size());
}

// Evaluates the averaged weights and publishes them if they are better.
absl::Status PublishIfBetter(const TrainOptions& options,
                             const v1::TrainingSpec& spec,
                             const v1::TrainingState& state, Progress* progress,
                             TrainerMetrics* metrics) {
  const Weights weights =
      ParametersToWeights(MakeLayout(spec.model()), Values(state.average()));
  const auto evaluation =
      Evaluate(spec.model(), weights, spec.evaluation_draws(),
               absl::StrCat("held-out/", options.model));
  if (!evaluation.ok()) return evaluation.status();
  const v1::Quality& quality = evaluation->quality;
  const std::string figures = absl::StrFormat(
      "held-out ess %.5f(%.0e) acceptance %.4f sigma2/site %.3e step doubling "
      "rms %.1e",
      quality.ess(), quality.ess_error(), quality.acceptance(),
      quality.sigma2_per_site(), quality.step_doubling_rms());

  const auto versions = ListVersions(options.repository, options.model);
  if (versions.ok() && !versions->empty()) {
    const auto best =
        ReadVersion(options.repository, options.model, versions->back());
    if (!best.ok()) return best.status();
    const v1::Quality& old = best->manifest.quality();
    if (quality.sigma2_per_site() + quality.sigma2_per_site_error() >=
        old.sigma2_per_site()) {
      progress->Say(absl::StrFormat(
          "step %d: %s: not better than version %d (%.3e), not published",
          state.step(), figures, best->manifest.version(),
          old.sigma2_per_site()));
      return absl::OkStatus();
    }
  }
  v1::Manifest manifest;
  *manifest.mutable_spec() = spec.model();
  *manifest.mutable_quality() = quality;
  manifest.set_log_weight_reference(evaluation->log_w_mean);
  v1::TrainingRecord& record = *manifest.mutable_training();
  record.set_step(state.step());
  record.set_draws(state.draws());
  record.set_seconds(state.seconds());
  record.set_core_seconds(state.core_seconds());
  record.set_threads(ComputeThreads());
  *record.mutable_spec() = spec;
  record.set_command(options.command);
  record.set_started_from(state.started_from());
  const auto published =
      Publish(options.repository, options.model, manifest, weights);
  if (!published.ok()) return published.status();
  metrics->Published(quality.ess());
  progress->Say(absl::StrFormat("step %d: %s: published %s version %d, %s",
                                state.step(), figures, options.model,
                                published->manifest.version(),
                                published->digest.substr(0, 12)));
  return absl::OkStatus();
}

// The saved state if it continues this run, else the start.
absl::StatusOr<v1::TrainingState> LoadState(const TrainOptions& options,
                                            const v1::TrainingSpec& spec,
                                            const std::string& path,
                                            Progress* progress) {
  const std::string fingerprint = TrainingFingerprint(spec, ComputeThreads());
  auto saved = ReadTrainingState(path);
  if (!options.restart && !absl::IsNotFound(saved.status())) {
    if (!saved.ok()) return saved.status();
    if (saved->spec_sha256() != fingerprint) {
      return absl::FailedPreconditionError(absl::StrCat(
          path,
          ": the saved state belongs to another spec or number of "
          "threads than this run's; use --restart to drop it, or another "
          "--model or --state_directory to keep both"));
    }
    if (options.say_resuming) {
      progress->Say(absl::StrFormat("resuming at step %d of %d", saved->step(),
                                    TotalSteps(spec)));
    }
    return saved;
  }
  auto state = StartState(options, spec);
  if (state.ok()) state->set_spec_sha256(fingerprint);
  return state;
}

// Figures of the draws between two reports.
struct Window {
  WeightSums weights;
  double sum = 0, squares = 0;  // of log w minus the first one
  double first = 0;
  uint64_t draws = 0;

  void Add(double log_w) {
    weights.Add(log_w);
    if (!std::isfinite(log_w)) return;
    if (draws == 0) first = log_w;
    sum += log_w - first;
    squares += (log_w - first) * (log_w - first);
    ++draws;
  }
  double Mean() const {
    return first + sum / std::max<double>(1, static_cast<double>(draws));
  }
  double Variance() const {
    const double n = static_cast<double>(draws);
    return n < 2 ? 0 : (squares - sum * sum / n) / (n - 1);
  }
};

// A published model's parameters for another spec.
absl::StatusOr<std::vector<float>> Move(const Checkpoint& checkpoint,
                                        const v1::ModelSpec& spec) {
  const v1::ModelSpec& from = checkpoint.manifest.spec();
  auto parameters = WeightsToParameters(MakeLayout(from), checkpoint.weights);
  if (!parameters.ok()) return parameters;
  if (!spec.flow().has_equivariant() || !from.flow().has_equivariant()) {
    // Other flows have no map between lattices or architectures.
    using google::protobuf::util::MessageDifferencer;
    if (MessageDifferencer::Equals(from.flow(), spec.flow()) &&
        MessageDifferencer::Equals(from.lattice(), spec.lattice())) {
      return parameters;
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "from_model: the weights of ", checkpoint.manifest.model(),
        " do not fit this flow; only equivariant flows start from one of "
        "another shape, others need the same flow on the same lattice"));
  }
  const EquivariantShape from_shape = MakeShape(from), shape = MakeShape(spec);
  if (from_shape.sines > shape.sines || from_shape.gates > shape.gates) {
    return absl::InvalidArgumentError(
        absl::StrCat("from_model: ", checkpoint.manifest.model(), " has ",
                     from_shape.sines, " sines and ", from_shape.gates,
                     " gates; this flow needs at least as many, not ",
                     shape.sines, " and ", shape.gates));
  }
  return Transfer(from_shape, *parameters, shape);
}

}  // namespace

absl::StatusOr<v1::TrainingState> StartState(const TrainOptions& options,
                                             const v1::TrainingSpec& spec) {
  v1::TrainingState state;
  std::vector<float> start;
  if (spec.has_from_free_field()) {
    start =
        FreeFieldStart(MakeShape(spec.model()), spec.from_free_field().mass(),
                       spec.from_free_field().normalisation());
  } else if (spec.has_from_random()) {
    start = RandomStart(
        MakeLayout(spec.model()),
        NamedStream(absl::StrCat("start/", options.model, "/", spec.seed())));
  } else {
    const std::string& from = spec.from_model().model();
    int64_t version = spec.from_model().version();
    if (version == 0) {
      const auto versions = ListVersions(options.repository, from);
      if (!versions.ok()) return versions.status();
      if (versions->empty()) {
        return absl::NotFoundError(absl::StrCat(
            "from_model.model: '", from, "' has no published version in ",
            options.repository,
            "; train it first, or start from_free_field or from_random"));
      }
      version = versions->back();
    }
    const auto checkpoint = ReadVersion(options.repository, from, version);
    if (!checkpoint.ok()) return checkpoint.status();
    auto moved = Move(*checkpoint, spec.model());
    if (!moved.ok()) return moved.status();
    start = *std::move(moved);
    state.set_started_from(checkpoint->digest);
  }
  Assign(start, state.mutable_parameters());
  Assign(start, state.mutable_average());
  state.mutable_adam_mean()->Resize(static_cast<int>(start.size()), 0.0f);
  state.mutable_adam_square()->Resize(static_cast<int>(start.size()), 0.0f);
  return state;
}

absl::StatusOr<TrainOutcome> Train(const TrainOptions& options,
                                   const v1::TrainingSpec& spec,
                                   Progress* progress, TrainerMetrics* metrics,
                                   const std::atomic<bool>& stop) {
  if (absl::Status valid = ValidateTrainingSpec(spec); !valid.ok()) {
    return valid;
  }
  auto action = MakeAction(spec.model().action(), spec.model().lattice());
  if (!action.ok()) return action.status();
  const std::string directory = options.state_directory.empty()
                                    ? options.repository + "/.training"
                                    : options.state_directory;
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, ": cannot be created: ", error.message(),
                     "; choose a writable --repository or --state_directory"));
  }
  const std::string path =
      absl::StrCat(directory, "/", options.model, ".state");
  auto state = LoadState(options, spec, path, progress);
  if (!state.ok()) return state.status();

  const auto loss_gradient = MakeLossGradient(spec.model(), **action);
  const StreamId stream =
      NamedStream(absl::StrCat("training/", options.model, "/", spec.seed()));
  const int64_t steps = TotalSteps(spec);
  const double sites = static_cast<double>((*action)->lattice().Sites());
  const double seconds_before = state->seconds();
  const double core_seconds_before = state->core_seconds() - CoreSeconds();
  const Clock::time_point start = Clock::now();
  Clock::time_point window_start = start;
  Window window;
  int64_t non_finite = 0;

  while (state->step() < steps) {
    const bool out_of_time = options.minutes_max > 0 &&
                             SecondsSince(start) > 60 * options.minutes_max;
    const bool at_step =
        options.stop_at_step > 0 && state->step() >= options.stop_at_step;
    if (stop.load() || out_of_time || at_step) {
      const absl::Status saved = WriteTrainingState(path, *state);
      if (!saved.ok()) return saved;
      return TrainOutcome::kStopped;
    }
    const int64_t batch = BatchAt(spec, state->step());
    const double rate = LearningRateAt(spec, state->step());
    LossGradientResult result = loss_gradient->Compute(
        Values(state->parameters()), stream, state->draws(), batch);
    state->set_draws(state->draws() + batch);
    non_finite += result.non_finite;
    for (const double log_w : result.log_w) window.Add(log_w);
    if (result.non_finite > 0) result.gradient[0] = std::nan("");
    const double norm = AdamStep(spec, result.gradient, &*state);
    state->set_seconds(seconds_before + SecondsSince(start));
    state->set_core_seconds(core_seconds_before + CoreSeconds());

    const int64_t step = state->step();
    if (step % spec.log_every_steps() == 0 || step == steps) {
      ProgressReport report;
      report.step = step;
      report.steps = steps;
      report.batch = batch;
      report.ess = window.weights.Ess();
      report.sigma2_per_site = window.Variance() / sites;
      report.loss = -window.Mean();
      report.gradient_norm = norm;
      report.learning_rate = rate;
      const double elapsed = SecondsSince(window_start);
      report.draws_per_second = static_cast<double>(window.draws) / elapsed;
      double draws_left = 0;
      for (int64_t later = step; later < steps; ++later) {
        draws_left += static_cast<double>(BatchAt(spec, later));
      }
      report.seconds_left = draws_left / report.draws_per_second;
      report.non_finite = non_finite;
      progress->Report(report);
      metrics->Report(report, state->draws());
      window = Window();
      window_start = Clock::now();
    }
    const bool checkpoint = step % spec.checkpoint_every_steps() == 0;
    if (checkpoint || step == steps) {
      const absl::Status saved = WriteTrainingState(path, *state);
      if (!saved.ok()) return saved;
    }
    const bool publish = spec.publish_every_steps() > 0 &&
                         step % spec.publish_every_steps() == 0 && step < steps;
    if (publish) {
      const absl::Status published =
          PublishIfBetter(options, spec, *state, progress, metrics);
      if (!published.ok()) progress->Say(std::string(published.message()));
      window_start = Clock::now();
    }
  }
  const absl::Status published =
      PublishIfBetter(options, spec, *state, progress, metrics);
  if (!published.ok()) return published;
  return TrainOutcome::kFinished;
}

}  // namespace latticed
