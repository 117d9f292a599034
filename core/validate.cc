#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "core/field_check.h"
#include "core/flow_shapes.h"

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

constexpr int kLayersMax = 16;
constexpr uint32_t kCouplingsMax = 64;
constexpr int kHiddenMax = 8;

void CheckNet(const v1::CouplingLayers& layers, const v1::Lattice& lattice,
              FieldChecks* checks) {
  const v1::CouplingNet& net = layers.net();
  if (net.hidden_size() > kHiddenMax) {
    checks->Fail("net.hidden", absl::StrCat("there are ", net.hidden_size(),
                                            ", allowed are 0 to ", kHiddenMax));
  }
  for (int i = 0; i < net.hidden_size(); ++i) {
    checks->Range(absl::StrCat("net.hidden[", i, "]"), net.hidden(i), 1, 1024);
  }
  if (net.kernel() > 0) {
    const uint32_t most = std::min({lattice.extent(0), lattice.extent(1), 31U});
    checks->Require(
        net.kernel() % 2 == 1 && net.kernel() <= most, "net.kernel",
        absl::StrCat("is ", net.kernel(), ", allowed are odd numbers up to ",
                     most, ", and 0 for a dense net"));
  }
  checks->Require(net.activation() == v1::ACTIVATION_TANH ||
                      net.activation() == v1::ACTIVATION_LEAKY_RELU,
                  "net.activation",
                  "is missing; set ACTIVATION_TANH or ACTIVATION_LEAKY_RELU");
}

void CheckLayers(const v1::CouplingLayers& layers, const v1::Lattice& lattice,
                 FieldChecks* checks) {
  checks->Range("count", layers.count(), 1, kCouplingsMax);
  checks->Require(layers.transform() >= v1::COUPLING_TRANSFORM_ADDITIVE &&
                      layers.transform() <= v1::COUPLING_TRANSFORM_SPLINE,
                  "transform",
                  "is missing; set COUPLING_TRANSFORM_ADDITIVE, _SHIFT_SCALE, "
                  "_SCALE_SHIFT or _SPLINE");
  const bool spline = layers.transform() == v1::COUPLING_TRANSFORM_SPLINE;
  CheckNet(layers, lattice, checks);
  if (spline) {
    checks->Range("segments", layers.segments(), 2, 64);
    checks->Require(
        layers.interval() >= 1e-3 && layers.interval() <= 1e3, "interval",
        absl::StrCat("is ", layers.interval(), ", allowed are 0.001 to 1000"));
  } else {
    checks->Require(layers.segments() == 0 && layers.interval() == 0,
                    "segments",
                    "and interval belong to COUPLING_TRANSFORM_SPLINE; leave "
                    "them out");
  }
  checks->Require(
      !layers.odd() ||
          (!spline && layers.net().activation() == v1::ACTIVATION_TANH),
      "odd", "needs ACTIVATION_TANH, an odd function, and no spline");
}

void CheckCoupling(const v1::CouplingFlow& flow, const v1::Lattice& lattice,
                   FieldChecks* checks) {
  if (flow.layers_size() < 1 || flow.layers_size() > kLayersMax) {
    checks->Fail("flow.coupling.layers",
                 absl::StrCat("there are ", flow.layers_size(),
                              ", allowed are 1 to ", kLayersMax));
    return;
  }
  uint64_t couplings = 0;
  for (int i = 0; i < flow.layers_size(); ++i) {
    FieldChecks fields(
        checks->Path(absl::StrCat("flow.coupling.layers[", i, "]")));
    CheckLayers(flow.layers(i), lattice, &fields);
    checks->Update(fields.status());
    couplings += flow.layers(i).count();
  }
  checks->Require(couplings <= kCouplingsMax, "flow.coupling.layers",
                  absl::StrCat("have ", couplings, " couplings, allowed are ",
                               kCouplingsMax, " in all"));
}

void CheckPositionSpace(const v1::PositionSpaceFlow& spec,
                        FieldChecks* checks) {
  FieldChecks fields(checks->Path("flow.position_space"));
  fields.Range("sine_features", spec.sine_features(), 1, 256);
  fields.Range("feature_bonds", spec.feature_bonds(), 1, 128);
  fields.Range("harmonics", spec.harmonics(), 0, 64);
  fields.Range("time_bonds", spec.time_bonds(), 1, 128);
  fields.Range("rk4_steps", spec.rk4_steps(), 1, 256);
  checks->Update(fields.status());
}

void CheckEquivariant(const v1::EquivariantFlow& spec, FieldChecks* checks) {
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

void CheckFlow(const v1::Flow& flow, const v1::Lattice& lattice,
               FieldChecks* checks) {
  switch (flow.kind_case()) {
    case v1::Flow::kEquivariant:
      return CheckEquivariant(flow.equivariant(), checks);
    case v1::Flow::kPositionSpace:
      return CheckPositionSpace(flow.position_space(), checks);
    case v1::Flow::kCoupling:
      return CheckCoupling(flow.coupling(), lattice, checks);
    case v1::Flow::KIND_NOT_SET:
      checks->Fail("flow",
                   "is missing; set equivariant, position_space or coupling");
  }
}

// What LibTorch would take for a flow without fused kernels.
constexpr int64_t kParametersMax = int64_t{1} << 26;
constexpr int64_t kTileNumbersMax = int64_t{1} << 28;  // of one tensor, 1 GiB

// Requires a spec that is valid otherwise.
void CheckSize(const v1::ModelSpec& spec, FieldChecks* checks) {
  int64_t numbers = 1;  // for a site, in the widest layer
  if (spec.flow().has_position_space()) {
    numbers = MakePositionSpaceShape(spec).Features();
  } else if (spec.flow().has_coupling()) {
    for (const CouplingLayer& layer : MakeCouplingShape(spec).layers) {
      numbers = std::max(numbers, layer.Outputs());
      if (!layer.net.convolutional) continue;
      for (const int64_t channels : layer.net.hidden) {
        numbers = std::max(numbers, channels);
      }
    }
  } else {
    return;
  }
  const int64_t parameters = ParameterCount(MakeLayout(spec));
  checks->Require(
      parameters <= kParametersMax, "flow",
      absl::StrCat("has ", parameters, " parameters, allowed are ",
                   kParametersMax, "; try smaller or convolutional nets"));
  numbers *= MakeLattice(spec.lattice()).Sites();
  checks->Require(
      spec.tile() * numbers <= kTileNumbersMax, "tile",
      absl::StrCat("is ", spec.tile(), ", and this flow computes ", numbers,
                   " numbers at once for each draw of it; "
                   "allowed are ",
                   kTileNumbersMax, " in all, so try ",
                   std::max<int64_t>(16, kTileNumbersMax / numbers / 16 * 16)));
}

absl::Status CheckModel(absl::string_view path, const v1::ModelSpec& spec) {
  FieldChecks checks(path);
  checks.Update(CheckAction(checks.Path("action"), spec.action()));
  checks.Update(CheckLattice(checks.Path("lattice"), spec.lattice()));
  CheckBase(spec.base(), &checks);
  if (checks.status().ok()) CheckFlow(spec.flow(), spec.lattice(), &checks);
  checks.Require(spec.dtype() == v1::DTYPE_FLOAT32, "dtype",
                 absl::StrCat("is ",
                              v1::Dtype_IsValid(spec.dtype())
                                  ? v1::Dtype_Name(spec.dtype())
                                  : absl::StrCat(spec.dtype()),
                              ", allowed is DTYPE_FLOAT32"));
  checks.MultipleOf16("tile", spec.tile(), 16, 4096);
  checks.Require(spec.ess_floor() >= 0 && spec.ess_floor() <= 1, "ess_floor",
                 absl::StrCat("is ", spec.ess_floor(), ", allowed are 0 to 1"));
  if (checks.status().ok()) CheckSize(spec, &checks);
  return checks.status();
}

void CheckStart(const v1::TrainingSpec& spec, FieldChecks* checks) {
  switch (spec.start_case()) {
    case v1::TrainingSpec::kFromFreeField:
      checks->Require(spec.model().flow().has_equivariant(), "from_free_field",
                      "is for equivariant flows; set from_random or "
                      "from_model");
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
    case v1::TrainingSpec::kFromRandom:
      checks->Require(!spec.model().flow().has_equivariant(), "from_random",
                      "is for coupling and position-space flows; equivariant "
                      "flows start from_free_field or from_model");
      break;
    case v1::TrainingSpec::START_NOT_SET:
      checks->Fail("start",
                   "is missing; set one of from_free_field, from_model, "
                   "from_random");
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
  checks.Require(!spec.model().flow().has_equivariant() ||
                     spec.model().base().has_standard_normal(),
                 "model.base",
                 "equivariant flows are trained from standard_normal only");
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
