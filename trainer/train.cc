#include "trainer/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/device.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "google/protobuf/util/message_differencer.h"
#include "latticed/build_id.h"
#include "trainer/agreement.h"
#include "trainer/core_seconds.h"
#include "trainer/loss_bound.h"
#include "trainer/loss_gradient.h"
#include "trainer/optimizer.h"
#include "trainer/publish.h"
#include "trainer/shared_step.h"
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

absl::string_view Bytes(const google::protobuf::RepeatedField<float>& field) {
  return {reinterpret_cast<const char*>(field.data()),
          sizeof(float) * static_cast<size_t>(field.size())};
}

absl::Span<const float> Values(
    const google::protobuf::RepeatedField<float>& field) {
  return absl::MakeConstSpan(field.data(), field.size());
}

std::string StateDirectory(const TrainOptions& options) {
  return options.state_directory.empty() ? options.repository + "/.training"
                                         : options.state_directory;
}

// The saved state if it continues this run, else the start.
absl::StatusOr<v1::TrainingState> LoadState(const TrainOptions& options,
                                            const v1::TrainingSpec& spec,
                                            const std::string& path,
                                            uint32_t processes,
                                            Progress* progress) {
  const std::string directory = StateDirectory(options);
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::Status(
        absl::ErrnoToStatusCode(error.value()),
        absl::StrCat(directory, ": cannot be created: ", error.message(),
                     "; choose a writable --repository or --state_directory"));
  }
  const std::string fingerprint = TrainingFingerprint(spec, ComputeThreads());
  auto saved = ReadTrainingState(path);
  if (!options.restart && !absl::IsNotFound(saved.status())) {
    if (!saved.ok()) return saved.status();
    if (saved->spec_sha256() != fingerprint) {
      return absl::FailedPreconditionError(
          absl::StrCat(path,
                       ": the saved state belongs to another spec or number of "
                       "threads a process than this run's ",
                       ComputeThreads(),
                       "; use --restart to drop it, or another --model or "
                       "--state_directory to keep both"));
    }
    if (options.say_resuming) {
      progress->Say(absl::StrFormat("resuming at step %d of %d", saved->step(),
                                    TotalSteps(spec)));
    }
    const uint32_t before = std::max(1u, saved->processes());
    if (before != processes) {
      progress->Say(absl::StrFormat(
          "%d processes before, %d now: what follows is equal to rounding, not "
          "to the bit",
          before, processes));
    }
    saved->set_processes(processes);
    return saved;
  }
  auto state = StartState(options, spec);
  if (state.ok()) {
    state->set_spec_sha256(fingerprint);
    state->set_processes(processes);
  }
  return state;
}

// What process 0 loads, in each.
absl::StatusOr<v1::TrainingState> SharedState(const TrainOptions& options,
                                              const v1::TrainingSpec& spec,
                                              const std::string& path,
                                              ProcessGroup* group,
                                              Progress* progress) {
  absl::StatusOr<v1::TrainingState> state = v1::TrainingState();
  const absl::Status loaded = OnFirst(group, [&] {
    state = LoadState(options, spec, path, group->size(), progress);
    return state.status();
  });
  if (!loaded.ok()) return loaded;
  if (group->alone()) return state;
  std::string bytes = state->SerializeAsString();
  if (absl::Status shared = group->Share(&bytes); !shared.ok()) return shared;
  if (!state->ParseFromString(bytes)) {
    return absl::InternalError(
        "process 0 shares a state that is no TrainingState");
  }
  progress->Say(absl::StrFormat(
      "%d processes with %d threads each; a step exchanges one sum of %d bytes",
      group->size(), ComputeThreads(),
      StepBytes(static_cast<int64_t>(state->parameters_size()))));
  return state;
}

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
                                   const std::atomic<bool>& stop,
                                   ProcessGroup* group) {
  const auto alone = ProcessGroup::Alone();
  if (group == nullptr) group = alone.get();
  if (absl::Status valid = ValidateTrainingSpec(spec); !valid.ok()) {
    return valid;
  }
  auto action = MakeAction(spec.model().action(), spec.model().lattice());
  if (!action.ok()) return action.status();
  if (absl::Status alike = ExpectAlike(
          group, {{"build", absl::StrCat(kBuildId, ", ", TorchVersion())},
                  {"spec", TrainingFingerprint(spec, 0)},
                  {"--model", options.model},
                  {"number of --threads", absl::StrCat(ComputeThreads())}});
      !alike.ok()) {
    return alike;
  }
  const std::string path =
      absl::StrCat(StateDirectory(options), "/", options.model, ".state");
  auto state = SharedState(options, spec, path, group, progress);
  if (!state.ok()) return state.status();
  const auto save = [&] {
    return OnFirst(group, [&] { return WriteTrainingState(path, *state); });
  };

  const auto loss_gradient = MakeLossGradient(spec.model(), **action);
  const StreamId stream =
      NamedStream(absl::StrCat("training/", options.model, "/", spec.seed()));
  const int64_t steps = TotalSteps(spec);
  const double sites = static_cast<double>((*action)->lattice().Sites());
  const double seconds_before = state->seconds();
  const double core_seconds_before = state->core_seconds();
  const double core_seconds_start = CoreSeconds();
  const Clock::time_point start = Clock::now();
  Clock::time_point window_start = start;
  Window window;
  LossBound loss_bound;
  bool loss_broken = false;
  int64_t non_finite = 0;
  const auto words = [&] {
    return StepWords{
        .core_seconds = CoreSeconds() - core_seconds_start,
        .interrupted = stop.load(),
        // By one clock.
        .out_of_time = group->first() && options.minutes_max > 0 &&
                       SecondsSince(start) > 60 * options.minutes_max};
  };
  StepWords said;  // by any process, with the last step

  while (state->step() < steps) {
    if (group->alone()) said = words();
    const bool at_step =
        options.stop_at_step > 0 && state->step() >= options.stop_at_step;
    if (said.interrupted || said.out_of_time || at_step) {
      const absl::Status saved = save();
      if (!saved.ok()) return saved;
      return said.interrupted ? TrainOutcome::kInterrupted
                              : TrainOutcome::kStopped;
    }
    const int64_t batch = BatchAt(spec, state->step());
    const double rate = LearningRateAt(spec, state->step());
    auto sums =
        ComputeStep(loss_gradient.get(), group, Values(state->parameters()),
                    stream, state->draws(), batch, words, &window);
    if (!sums.ok()) return sums.status();
    said = sums->words;
    state->set_draws(state->draws() + batch);
    non_finite += sums->non_finite;
    if (sums->non_finite > 0) sums->gradient[0] = std::nan("");
    const double norm = AdamStep(spec, sums->gradient, &*state);
    state->set_seconds(seconds_before + SecondsSince(start));
    state->set_core_seconds(core_seconds_before + said.core_seconds);

    const int64_t step = state->step();
    bool publish = spec.publish_every_steps() > 0 &&
                   step % spec.publish_every_steps() == 0 && step < steps;
    if (step % spec.log_every_steps() == 0 || step == steps) {
      const auto all = window.OfAll(group, Bytes(state->parameters()));
      if (!all.ok()) return all.status();
      ProgressReport report;
      report.step = step;
      report.steps = steps;
      report.batch = batch;
      report.ess = all->Ess();
      report.sigma2_per_site = all->Variance() / sites;
      report.loss = -all->Mean();
      report.gradient_norm = norm;
      report.learning_rate = rate;
      const double elapsed = SecondsSince(window_start);
      report.draws_per_second = static_cast<double>(all->draws()) / elapsed;
      double draws_left = 0;
      for (int64_t later = step; later < steps; ++later) {
        draws_left += static_cast<double>(BatchAt(spec, later));
      }
      report.seconds_left = draws_left / report.draws_per_second;
      report.non_finite = non_finite;
      progress->Report(report);
      metrics->Report(report, state->draws());
      if (loss_bound.BrokenBy(*all) && !std::exchange(loss_broken, true)) {
        progress->Say(absl::StrFormat(
            "step %d: the loss, %.6f, is below its least value, -log Z = %.6f: "
            "the integrator's error has become part of it, and the flow may "
            "soon be lost; it is published now, if it is better; train with "
            "fewer steps, a lower learning_rate or more rk4_steps",
            step, report.loss, -loss_bound.log_z()));
        publish = step < steps;
      }
      window = Window();
      window_start = Clock::now();
    }
    const bool checkpoint = step % spec.checkpoint_every_steps() == 0;
    if (checkpoint || step == steps) {
      const absl::Status saved = save();
      if (!saved.ok()) return saved;
    }
    if (publish) {
      const absl::Status published =
          PublishIfBetter(options, spec, *state, group, progress, metrics);
      if (!published.ok()) progress->Say(std::string(published.message()));
      window_start = Clock::now();
    }
  }
  const absl::Status published =
      PublishIfBetter(options, spec, *state, group, progress, metrics);
  if (!published.ok()) return published;
  return TrainOutcome::kFinished;
}

}  // namespace latticed
