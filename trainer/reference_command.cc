#include "trainer/reference_command.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/checkpoint/repository.h"
#include "core/factory.h"
#include "core/montecarlo/reference.h"
#include "latticed/build_id.h"

namespace latticed {

namespace {

// Whether there is one of this spec.
absl::StatusOr<bool> IsThere(const TrainOptions& options,
                             const v1::ModelSpec& model) {
  const auto there = ReadReference(options.repository, options.model);
  if (absl::IsNotFound(there.status())) return false;
  const char* advice =
      "; leave out --if_missing to write a new one in its place";
  if (!there.ok()) {
    return absl::Status(there.status().code(),
                        absl::StrCat(there.status().message(), advice));
  }
  if (there->manifest.action().SerializeAsString() !=
          model.action().SerializeAsString() ||
      there->manifest.lattice().SerializeAsString() !=
          model.lattice().SerializeAsString()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "reference: the one in ", options.repository, "/", options.model,
        " is of another action or lattice than the spec", advice));
  }
  return true;
}

}  // namespace

absl::Status RunReferenceCommand(const TrainOptions& options,
                                 const v1::TrainingSpec& spec,
                                 const ReferenceCommand& command,
                                 Progress* progress,
                                 const std::atomic<bool>& stop) {
  const uint64_t updates = command.updates;
  const uint64_t configurations = command.configurations;
  constexpr uint64_t kUpdatesMin = 1000, kUpdatesMax = uint64_t{1} << 40;
  constexpr uint64_t kConfigurationsMax = 1 << 20;
  if (updates < kUpdatesMin || updates > kUpdatesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("--updates=", updates, ": allowed are ", kUpdatesMin,
                     " to 2^40; 1000000 gives errors of a few per mille"));
  }
  if (configurations > kConfigurationsMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--configurations=", configurations, ": at most ", kConfigurationsMax));
  }
  if (absl::Status valid = ValidateTrainingSpec(spec); !valid.ok()) {
    return valid;
  }
  const v1::ModelSpec& model = spec.model();
  const auto couplings = MakeCouplings(model.action());
  if (!couplings.ok()) return couplings.status();
  if (command.if_missing) {
    const auto there = IsThere(options, model);
    if (!there.ok()) return there.status();
    if (*there) {
      progress->Say(absl::StrFormat("reference: %s/%s has one",
                                    options.repository, options.model));
      return absl::OkStatus();
    }
  }

  ReferenceOptions run_options;
  run_options.updates = static_cast<int64_t>(updates);
  run_options.configurations = static_cast<int64_t>(configurations);
  auto last = std::chrono::steady_clock::now();
  run_options.progress = [&](int64_t done, int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last > std::chrono::seconds(10)) {
      progress->Say(absl::StrFormat("reference: update %d of %d", done, total));
      last = now;
    }
    return !stop.load();
  };
  const ReferenceRun run = RunReference(
      MakeLattice(model.lattice()), *couplings, run_options,
      NamedStream(absl::StrCat("reference/", options.model, "/", spec.seed())));
  if (!run.complete) {
    return absl::CancelledError("reference: stopped, nothing written");
  }
  v1::ReferenceManifest manifest;
  *manifest.mutable_action() = model.action();
  *manifest.mutable_lattice() = model.lattice();
  for (const auto& [name, estimate] : run.observables) {
    v1::Estimate& out = (*manifest.mutable_observables())[name];
    out.set_value(estimate.value);
    out.set_error(estimate.error);
  }
  for (const auto& [name, tau] : run.tau_int) {
    (*manifest.mutable_tau_int_updates())[name] = tau;
  }
  manifest.set_method(run.method);
  manifest.set_updates(run.updates);
  manifest.set_configurations(configurations);
  manifest.set_build(kBuildId);
  absl::Status written =
      WriteReference(options.repository, options.model, manifest, run.phi);
  if (!written.ok()) return written;
  for (const char* name : {"chi_2", "m_p_L", "abs_M"}) {
    const Estimate& estimate = run.observables.at(name);
    progress->Say(absl::StrFormat("reference: %s %.6g(%.1e)", name,
                                  estimate.value, estimate.error));
  }
  progress->Say(absl::StrFormat(
      "reference: %d updates, %d configurations "
      "written to %s/%s/reference",
      run.updates, configurations, options.repository, options.model));
  return absl::OkStatus();
}

}  // namespace latticed
