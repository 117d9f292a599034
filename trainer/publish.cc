#include "trainer/publish.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "trainer/agreement.h"
#include "trainer/evaluate.h"

namespace latticed {
namespace {

absl::Status PublishEvaluated(const TrainOptions& options,
                              const v1::TrainingSpec& spec,
                              const v1::TrainingState& state,
                              const Weights& weights,
                              const Evaluation& evaluation, Progress* progress,
                              TrainerMetrics* metrics, int processes) {
  const v1::Quality& quality = evaluation.quality;
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
  manifest.set_log_weight_reference(evaluation.log_w_mean);
  v1::TrainingRecord& record = *manifest.mutable_training();
  record.set_step(state.step());
  record.set_draws(state.draws());
  record.set_seconds(state.seconds());
  record.set_core_seconds(state.core_seconds());
  record.set_threads(ComputeThreads());
  record.set_processes(processes);
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
  if (quality.ess() < spec.model().ess_floor()) {
    progress->Say(absl::StrFormat(
        "that ess is below the spec's ess_floor, %g: a server's gate will "
        "reject the version; train longer, or with a lower learning_rate if "
        "the loss has risen again",
        spec.model().ess_floor()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PublishIfBetter(const TrainOptions& options,
                             const v1::TrainingSpec& spec,
                             const v1::TrainingState& state,
                             ProcessGroup* group, Progress* progress,
                             TrainerMetrics* metrics) {
  const Weights weights = ParametersToWeights(
      MakeLayout(spec.model()),
      absl::MakeConstSpan(state.average().data(), state.average_size()));
  const auto evaluation =
      Evaluate(spec.model(), weights, spec.evaluation_draws(),
               absl::StrCat("held-out/", options.model), group);
  if (!evaluation.ok()) return evaluation.status();
  return OnFirst(group, [&] {
    return PublishEvaluated(options, spec, state, weights, *evaluation,
                            progress, metrics, group->size());
  });
}

}  // namespace latticed
