#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "core/field_check.h"

namespace latticed {
namespace {

constexpr int kPhasesMax = 64;

void CheckBase(const v1::BaseDistribution& base, FieldChecks* checks) {
  switch (base.kind_case()) {
    case v1::BaseDistribution::kStandardNormal:
      break;
    case v1::BaseDistribution::kFreeField:
      checks->Positive("base.free_field.mass", base.free_field().mass());
      break;
    case v1::BaseDistribution::KIND_NOT_SET:
      checks->Fail("base", "is missing; set standard_normal or free_field");
      break;
  }
}

void CheckFlow(const v1::Flow& flow, FieldChecks* checks) {
  if (!flow.has_equivariant()) {
    checks->Fail("flow", "is missing; set equivariant");
    return;
  }
  const v1::EquivariantFlow& spec = flow.equivariant();
  checks->Range("flow.equivariant.sine_features", spec.sine_features(), 1, 32);
  checks->Range("flow.equivariant.gates", spec.gates(), 1, 8);
  checks->Range("flow.equivariant.time_nodes", spec.time_nodes(), 2, 64);
  checks->Range("flow.equivariant.rk4_steps", spec.rk4_steps(), 1, 256);
  if (!checks->status().ok()) return;
  const uint32_t intervals = spec.time_nodes() - 1;
  const uint32_t steps = spec.rk4_steps();
  checks->Require(
      steps % intervals == 0, "flow.equivariant.time_nodes",
      absl::StrCat("is ", spec.time_nodes(), ", and ", intervals,
                   " intervals do not divide rk4_steps = ", steps,
                   ": nodes must fall on step boundaries; try rk4_steps = ",
                   std::max(steps / intervals, 1U) * intervals));
}

absl::Status CheckModel(absl::string_view path, const v1::ModelSpec& spec) {
  FieldChecks checks(path);
  checks.Update(CheckAction(checks.Path("action"), spec.action()));
  checks.Update(CheckLattice(checks.Path("lattice"), spec.lattice()));
  CheckBase(spec.base(), &checks);
  CheckFlow(spec.flow(), &checks);
  checks.Require(spec.dtype() == v1::DTYPE_FLOAT32, "dtype",
                 absl::StrCat("is ",
                              v1::Dtype_IsValid(spec.dtype())
                                  ? v1::Dtype_Name(spec.dtype())
                                  : absl::StrCat(spec.dtype()),
                              ", allowed is DTYPE_FLOAT32"));
  checks.MultipleOf16("tile", spec.tile(), 16, 4096);
  checks.Require(spec.ess_floor() >= 0 && spec.ess_floor() <= 1, "ess_floor",
                 absl::StrCat("is ", spec.ess_floor(), ", allowed are 0 to 1"));
  return checks.status();
}

void CheckStart(const v1::TrainingSpec& spec, FieldChecks* checks) {
  switch (spec.start_case()) {
    case v1::TrainingSpec::kFromFreeField:
      checks->Positive("from_free_field.mass", spec.from_free_field().mass());
      checks->Positive("from_free_field.normalisation",
                       spec.from_free_field().normalisation());
      break;
    case v1::TrainingSpec::kFromModel:
      checks->Require(ValidModelName(spec.from_model().model()),
                      "from_model.model",
                      "is no model name; allowed are 1 to 63 characters of "
                      "a-z, 0-9 and -, the first a letter");
      checks->Require(spec.from_model().version() >= 0, "from_model.version",
                      absl::StrCat("is ", spec.from_model().version(),
                                   ", allowed are versions from 1 on, or 0 "
                                   "for the newest"));
      break;
    case v1::TrainingSpec::START_NOT_SET:
      checks->Fail("start",
                   "is missing; set one of from_free_field, from_model");
      break;
  }
}

// Returns the number of steps of the whole run.
uint64_t CheckPhases(const v1::TrainingSpec& spec, FieldChecks* checks) {
  if (spec.phase_size() < 1 || spec.phase_size() > kPhasesMax) {
    checks->Fail("phase", absl::StrCat("there are ", spec.phase_size(),
                                       ", allowed are 1 to ", kPhasesMax));
  }
  uint64_t steps = 0;
  for (int i = 0; i < spec.phase_size(); ++i) {
    const std::string phase = absl::StrCat("phase[", i, "]");
    checks->Range(phase + ".steps", spec.phase(i).steps(), 1, 10'000'000);
    checks->MultipleOf16(phase + ".batch", spec.phase(i).batch(), 16, 65536);
    steps += spec.phase(i).steps();
  }
  return steps;
}

}  // namespace

absl::Status CheckLattice(absl::string_view path, const v1::Lattice& lattice) {
  FieldChecks checks(path);
  if (lattice.extent_size() != 2) {
    checks.Fail("extent", absl::StrCat("there are ", lattice.extent_size(),
                                       ", a lattice has 2: give one extent "
                                       "for each direction"));
  }
  for (int i = 0; i < lattice.extent_size(); ++i) {
    checks.Range(absl::StrCat("extent[", i, "]"), lattice.extent(i), 2, 256);
  }
  return checks.status();
}

absl::Status ValidateModelSpec(const v1::ModelSpec& spec) {
  return CheckModel("", spec);
}

absl::Status ValidateTrainingSpec(const v1::TrainingSpec& spec) {
  FieldChecks checks("");
  checks.Update(CheckModel("model", spec.model()));
  checks.Require(spec.model().base().has_standard_normal(), "model.base",
                 "training knows standard_normal only");
  CheckStart(spec, &checks);
  const uint64_t steps = CheckPhases(spec, &checks);

  checks.Positive("learning_rate", spec.learning_rate());
  checks.NotNegative("learning_rate_final", spec.learning_rate_final());
  checks.Require(
      spec.learning_rate_final() <= spec.learning_rate(), "learning_rate_final",
      absl::StrCat(
          "is ", spec.learning_rate_final(),
          ", allowed are 0 to learning_rate = ", spec.learning_rate()));
  checks.Range("warmup_steps", spec.warmup_steps(), 0, steps);
  checks.Fraction("adam_beta1", spec.adam_beta1());
  checks.Fraction("adam_beta2", spec.adam_beta2());
  checks.Positive("clip_norm", spec.clip_norm());
  if (spec.clip_warmup_steps() > 0) {
    checks.Positive("clip_norm_warmup", spec.clip_norm_warmup());
  }
  checks.Range("clip_warmup_steps", spec.clip_warmup_steps(), 0, steps);
  checks.NotNegative("adam_epsilon", spec.adam_epsilon());
  checks.Fraction("ema_decay", spec.ema_decay());
  checks.Range("log_every_steps", spec.log_every_steps(), 1, UINT32_MAX);
  checks.Range("checkpoint_every_steps", spec.checkpoint_every_steps(), 1,
               UINT32_MAX);
  checks.Range("evaluation_draws", spec.evaluation_draws(), 1024, 1 << 24);
  return checks.status();
}

}  // namespace latticed
