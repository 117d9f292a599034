#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/factory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

v1::ModelSpec GoodModel() {
  v1::ModelSpec spec;
  spec.mutable_action()->mutable_phi4()->mutable_latticed()->set_mass_squared(
      -4);
  spec.mutable_action()->mutable_phi4()->mutable_latticed()->set_lambda(6.008);
  spec.mutable_lattice()->add_extent(8);
  spec.mutable_lattice()->add_extent(8);
  spec.mutable_base()->mutable_standard_normal();
  v1::EquivariantFlow* flow = spec.mutable_flow()->mutable_equivariant();
  flow->set_sine_features(10);
  flow->set_gates(3);
  flow->set_time_nodes(7);
  flow->set_rk4_steps(12);
  spec.set_dtype(v1::DTYPE_FLOAT32);
  spec.set_tile(128);
  spec.set_ess_floor(0.5);
  return spec;
}

v1::TrainingSpec GoodTraining() {
  v1::TrainingSpec spec;
  *spec.mutable_model() = GoodModel();
  spec.set_seed(1);
  spec.mutable_from_free_field()->set_mass(0.5);
  spec.mutable_from_free_field()->set_normalisation(0.8);
  v1::TrainingSpec::Phase* phase = spec.add_phase();
  phase->set_steps(400);
  phase->set_batch(128);
  spec.set_learning_rate(0.02);
  spec.set_warmup_steps(10);
  spec.set_adam_beta1(0.9);
  spec.set_adam_beta2(0.99);
  spec.set_clip_norm(100);
  spec.set_clip_norm_warmup(10);
  spec.set_clip_warmup_steps(20);
  spec.set_ema_decay(0.99);
  spec.set_log_every_steps(10);
  spec.set_checkpoint_every_steps(100);
  spec.set_evaluation_draws(4096);
  return spec;
}

template <typename Spec>
struct BadSpec {
  std::string field;    // what the message must start with
  std::string allowed;  // and say
  std::function<void(Spec*)> spoil;
};

v1::Phi4* Phi4Of(v1::ModelSpec* spec) {
  return spec->mutable_action()->mutable_phi4();
}
v1::EquivariantFlow* FlowOf(v1::ModelSpec* spec) {
  return spec->mutable_flow()->mutable_equivariant();
}
v1::PositionSpaceFlow* PositionSpaceOf(v1::ModelSpec* spec) {
  v1::PositionSpaceFlow* flow = spec->mutable_flow()->mutable_position_space();
  flow->set_sine_features(49);
  flow->set_feature_bonds(20);
  flow->set_harmonics(10);
  flow->set_time_bonds(20);
  flow->set_rk4_steps(50);
  return flow;
}
v1::CouplingLayers* LayersOf(v1::ModelSpec* spec) {
  v1::CouplingLayers* layers =
      spec->mutable_flow()->mutable_coupling()->add_layers();
  layers->set_count(16);
  layers->set_transform(v1::COUPLING_TRANSFORM_SCALE_SHIFT);
  layers->mutable_net()->set_activation(v1::ACTIVATION_TANH);
  layers->mutable_net()->add_hidden(8);
  return layers;
}
v1::CouplingLayers* SplinesOf(v1::ModelSpec* spec) {
  v1::CouplingLayers* layers = LayersOf(spec);
  layers->set_transform(v1::COUPLING_TRANSFORM_SPLINE);
  layers->set_segments(8);
  layers->set_interval(5);
  return layers;
}

std::vector<BadSpec<v1::ModelSpec>> BadModels() {
  using Spec = v1::ModelSpec;
  return {
      {"action.kind", "phi4 or free_field", [](Spec* s) { s->clear_action(); }},
      {"action.phi4.convention", "latticed",
       [](Spec* s) { Phi4Of(s)->Clear(); }},
      {"action.phi4.latticed.mass_squared", "finite",
       [](Spec* s) { Phi4Of(s)->mutable_latticed()->set_mass_squared(kNan); }},
      {"action.phi4.latticed.lambda", ">= 0",
       [](Spec* s) { Phi4Of(s)->mutable_latticed()->set_lambda(-1e-9); }},
      {"action.phi4.latticed.lambda", "finite",
       [](Spec* s) { Phi4Of(s)->mutable_latticed()->set_lambda(kInf); }},
      {"action.phi4", "lambda > 0, or mass_squared > 0",
       [](Spec* s) { Phi4Of(s)->mutable_latticed()->set_lambda(0); }},
      {"action.phi4", "mass_squared > 0",
       [](Spec* s) { Phi4Of(s)->mutable_latticed()->Clear(); }},
      {"action.phi4.bosetti.beta", "> 0",
       [](Spec* s) { Phi4Of(s)->mutable_bosetti()->set_lambda(1); }},
      {"action.phi4.bosetti.lambda", ">= 0",
       [](Spec* s) {
         Phi4Of(s)->mutable_bosetti()->set_beta(1);
         Phi4Of(s)->mutable_bosetti()->set_lambda(-1);
       }},
      {"action.phi4", "overflow",
       [](Spec* s) {
         Phi4Of(s)->mutable_bosetti()->set_beta(1e-200);
         Phi4Of(s)->mutable_bosetti()->set_lambda(1);
       }},
      // beta = 1: m^2 = 2 - 4 < 0 in our convention.
      {"action.phi4", "mass_squared > 0",
       [](Spec* s) { Phi4Of(s)->mutable_bosetti()->set_beta(1); }},
      {"action.phi4.hopping.kappa", "> 0",
       [](Spec* s) { Phi4Of(s)->mutable_hopping()->set_kappa(-0.1); }},
      {"action.phi4.hopping.lambda", ">= 0",
       [](Spec* s) {
         Phi4Of(s)->mutable_hopping()->set_kappa(0.1);
         Phi4Of(s)->mutable_hopping()->set_lambda(kNan);
       }},
      {"action.phi4.continuum.mass_squared", "finite",
       [](Spec* s) { Phi4Of(s)->mutable_continuum()->set_mass_squared(kInf); }},
      {"action.phi4.continuum.g", ">= 0",
       [](Spec* s) { Phi4Of(s)->mutable_continuum()->set_g(-1); }},
      {"action.phi4.normflow.kappa", "> 0",
       [](Spec* s) { Phi4Of(s)->mutable_normflow()->set_lambda(1); }},
      {"action.phi4.normflow.mass_squared", "finite",
       [](Spec* s) {
         Phi4Of(s)->mutable_normflow()->set_kappa(1);
         Phi4Of(s)->mutable_normflow()->set_mass_squared(kNan);
       }},
      {"action.phi4.normflow.lambda", ">= 0",
       [](Spec* s) {
         Phi4Of(s)->mutable_normflow()->set_kappa(1);
         Phi4Of(s)->mutable_normflow()->set_lambda(-2);
       }},
      {"action.phi4.schaich.mu_squared", "finite",
       [](Spec* s) { Phi4Of(s)->mutable_schaich()->set_mu_squared(-kInf); }},
      {"action.phi4.schaich.lambda", ">= 0",
       [](Spec* s) { Phi4Of(s)->mutable_schaich()->set_lambda(-1); }},
      {"action.free_field.mass_squared", "> 0",
       [](Spec* s) { s->mutable_action()->mutable_free_field(); }},
      {"lattice.extent", "a lattice has 2",
       [](Spec* s) { s->clear_lattice(); }},
      {"lattice.extent", "a lattice has 2",
       [](Spec* s) { s->mutable_lattice()->add_extent(8); }},
      {"lattice.extent[0]", "2 to 256",
       [](Spec* s) { s->mutable_lattice()->set_extent(0, 1); }},
      {"lattice.extent[1]", "2 to 256",
       [](Spec* s) { s->mutable_lattice()->set_extent(1, 257); }},
      {"base", "standard_normal or free_field",
       [](Spec* s) { s->clear_base(); }},
      {"base.free_field.mass", "> 0",
       [](Spec* s) { s->mutable_base()->mutable_free_field(); }},
      {"flow", "equivariant", [](Spec* s) { s->clear_flow(); }},
      {"flow.equivariant.sine_features", "1 to 32",
       [](Spec* s) { FlowOf(s)->set_sine_features(0); }},
      {"flow.equivariant.sine_features", "1 to 32",
       [](Spec* s) { FlowOf(s)->set_sine_features(33); }},
      {"flow.equivariant.gates", "1 to 8",
       [](Spec* s) { FlowOf(s)->set_gates(0); }},
      {"flow.equivariant.gates", "1 to 8",
       [](Spec* s) { FlowOf(s)->set_gates(9); }},
      {"flow.equivariant.time_nodes", "2 to 64",
       [](Spec* s) { FlowOf(s)->set_time_nodes(1); }},
      {"flow.equivariant.time_nodes", "2 to 64",
       [](Spec* s) { FlowOf(s)->set_time_nodes(65); }},
      {"flow.equivariant.rk4_steps", "1 to 256",
       [](Spec* s) { FlowOf(s)->set_rk4_steps(0); }},
      {"flow.equivariant.rk4_steps", "1 to 256",
       [](Spec* s) { FlowOf(s)->set_rk4_steps(257); }},
      {"flow.equivariant.time_nodes", "try rk4_steps = 6",
       [](Spec* s) { FlowOf(s)->set_rk4_steps(8); }},
      {"flow.equivariant.time_nodes", "try rk4_steps = 6",
       [](Spec* s) { FlowOf(s)->set_rk4_steps(3); }},
      {"flow.position_space.sine_features", "1 to 256",
       [](Spec* s) { PositionSpaceOf(s)->set_sine_features(0); }},
      {"flow.position_space.feature_bonds", "1 to 128",
       [](Spec* s) { PositionSpaceOf(s)->set_feature_bonds(129); }},
      {"flow.position_space.harmonics", "0 to 64",
       [](Spec* s) { PositionSpaceOf(s)->set_harmonics(65); }},
      {"flow.position_space.time_bonds", "1 to 128",
       [](Spec* s) { PositionSpaceOf(s)->set_time_bonds(0); }},
      {"flow.position_space.rk4_steps", "1 to 256",
       [](Spec* s) { PositionSpaceOf(s)->set_rk4_steps(0); }},
      {"flow.coupling.layers", "1 to 16",
       [](Spec* s) { s->mutable_flow()->mutable_coupling(); }},
      {"flow.coupling.layers", "64 in all",
       [](Spec* s) {
         for (int i = 0; i < 5; ++i) LayersOf(s);
       }},
      {"flow.coupling.layers[0].count", "1 to 64",
       [](Spec* s) { LayersOf(s)->set_count(0); }},
      {"flow.coupling.layers[0].transform", "_SPLINE",
       [](Spec* s) { LayersOf(s)->clear_transform(); }},
      {"flow.coupling.layers[0].transform", "_SPLINE",
       [](Spec* s) {
         LayersOf(s)->set_transform(static_cast<v1::CouplingTransform>(9));
       }},
      {"flow.coupling.layers[0].net.hidden", "0 to 8",
       [](Spec* s) {
         v1::CouplingLayers* layers = LayersOf(s);
         for (int i = 0; i < 8; ++i) layers->mutable_net()->add_hidden(8);
       }},
      {"flow.coupling.layers[0].net.hidden[1]", "1 to 1024",
       [](Spec* s) { LayersOf(s)->mutable_net()->add_hidden(1025); }},
      {"flow.coupling.layers[0].net.kernel", "odd numbers up to 8",
       [](Spec* s) { LayersOf(s)->mutable_net()->set_kernel(4); }},
      {"flow.coupling.layers[0].net.kernel", "odd numbers up to 8",
       [](Spec* s) { LayersOf(s)->mutable_net()->set_kernel(9); }},
      {"flow.coupling.layers[0].net.activation", "ACTIVATION_TANH",
       [](Spec* s) { LayersOf(s)->mutable_net()->clear_activation(); }},
      {"flow.coupling.layers[0].segments", "leave them out",
       [](Spec* s) { LayersOf(s)->set_segments(8); }},
      {"flow.coupling.layers[0].segments", "2 to 64",
       [](Spec* s) { SplinesOf(s)->set_segments(1); }},
      {"flow.coupling.layers[0].interval", "0.001 to 1000",
       [](Spec* s) { SplinesOf(s)->set_interval(0); }},
      {"flow.coupling.layers[0].interval", "0.001 to 1000",
       [](Spec* s) { SplinesOf(s)->set_interval(1e300); }},
      {"flow", "has 6448710656 parameters, allowed are 67108864",
       [](Spec* s) {
         v1::CouplingLayers* layers = SplinesOf(s);
         layers->set_count(1);
         layers->set_segments(64);
         layers->mutable_net()->set_hidden(0, 1024);
         s->mutable_lattice()->set_extent(0, 256);
         s->mutable_lattice()->set_extent(1, 256);
         s->set_tile(16);
       }},
      {"tile", "so try 80",
       [](Spec* s) {
         PositionSpaceOf(s);
         s->mutable_lattice()->set_extent(0, 256);
         s->mutable_lattice()->set_extent(1, 256);
         s->set_tile(96);
       }},
      {"flow.coupling.layers[0].odd", "no spline",
       [](Spec* s) { SplinesOf(s)->set_odd(true); }},
      {"flow.coupling.layers[1].odd", "ACTIVATION_TANH",
       [](Spec* s) {
         LayersOf(s);
         v1::CouplingLayers* layers = LayersOf(s);
         layers->mutable_net()->set_activation(v1::ACTIVATION_LEAKY_RELU);
         layers->set_odd(true);
       }},
      {"dtype: is DTYPE_UNSPECIFIED", "DTYPE_FLOAT32",
       [](Spec* s) { s->clear_dtype(); }},
      {"dtype: is 17", "DTYPE_FLOAT32",
       [](Spec* s) { s->set_dtype(static_cast<v1::Dtype>(17)); }},
      {"tile", "multiples of 16 from 16 to 4096",
       [](Spec* s) { s->set_tile(0); }},
      {"tile", "multiples of 16", [](Spec* s) { s->set_tile(24); }},
      {"tile", "to 4096", [](Spec* s) { s->set_tile(4112); }},
      {"ess_floor", "0 to 1", [](Spec* s) { s->set_ess_floor(-0.01); }},
      {"ess_floor", "0 to 1", [](Spec* s) { s->set_ess_floor(1.01); }},
      {"ess_floor", "0 to 1", [](Spec* s) { s->set_ess_floor(kNan); }},
  };
}

std::vector<BadSpec<v1::TrainingSpec>> BadTrainings() {
  using Spec = v1::TrainingSpec;
  return {
      {"model.action.kind", "phi4", [](Spec* s) { s->clear_model(); }},
      {"model.lattice.extent[0]", "2 to 256",
       [](Spec* s) {
         s->mutable_model()->mutable_lattice()->set_extent(0, 0);
       }},
      {"model.tile", "multiples of 16",
       [](Spec* s) { s->mutable_model()->set_tile(1); }},
      {"start", "from_free_field, from_model",
       [](Spec* s) { s->clear_start(); }},
      {"from_free_field.mass", "> 0",
       [](Spec* s) { s->mutable_from_free_field()->set_mass(0); }},
      {"from_free_field.normalisation", "> 0",
       [](Spec* s) { s->mutable_from_free_field()->set_normalisation(-1); }},
      {"from_free_field", "from_random",
       [](Spec* s) { LayersOf(s->mutable_model()); }},
      {"from_random", "from_free_field",
       [](Spec* s) { s->mutable_from_random(); }},
      {"from_model.model", "a-z",
       [](Spec* s) { s->mutable_from_model()->set_model("../x"); }},
      {"from_model.version", "0 for the newest",
       [](Spec* s) {
         s->mutable_from_model()->set_model("phi4-l8");
         s->mutable_from_model()->set_version(-1);
       }},
      {"phase", "1 to 64", [](Spec* s) { s->clear_phase(); }},
      {"phase", "1 to 64",
       [](Spec* s) {
         for (int i = 0; i < 64; ++i) *s->add_phase() = s->phase(0);
       }},
      {"phase[0].steps", "1 to 10000000",
       [](Spec* s) { s->mutable_phase(0)->set_steps(0); }},
      {"phase[0].steps", "1 to 10000000",
       [](Spec* s) { s->mutable_phase(0)->set_steps(10'000'001); }},
      {"phase[1].batch", "multiples of 16 from 16 to 65536",
       [](Spec* s) {
         *s->add_phase() = s->phase(0);
         s->mutable_phase(1)->set_batch(8);
       }},
      {"phase[0].batch", "to 65536",
       [](Spec* s) { s->mutable_phase(0)->set_batch(65552); }},
      {"learning_rate", "> 0", [](Spec* s) { s->set_learning_rate(0); }},
      {"learning_rate", "> 0", [](Spec* s) { s->set_learning_rate(kNan); }},
      {"learning_rate_final", ">= 0",
       [](Spec* s) { s->set_learning_rate_final(-1); }},
      {"learning_rate_final", "learning_rate = 0.02",
       [](Spec* s) { s->set_learning_rate_final(0.03); }},
      {"warmup_steps", "0 to 400", [](Spec* s) { s->set_warmup_steps(401); }},
      {"adam_beta1", "< 1", [](Spec* s) { s->set_adam_beta1(1); }},
      {"adam_beta2", "0 <=", [](Spec* s) { s->set_adam_beta2(-0.1); }},
      {"clip_norm", "> 0", [](Spec* s) { s->set_clip_norm(0); }},
      {"clip_norm_warmup", "> 0", [](Spec* s) { s->set_clip_norm_warmup(0); }},
      {"clip_warmup_steps", "0 to 400",
       [](Spec* s) { s->set_clip_warmup_steps(401); }},
      {"adam_epsilon", ">= 0", [](Spec* s) { s->set_adam_epsilon(-1e-3); }},
      {"model.base", "standard_normal",
       [](Spec* s) {
         s->mutable_model()->mutable_base()->mutable_free_field()->set_mass(1);
       }},
      {"ema_decay", "< 1", [](Spec* s) { s->set_ema_decay(1); }},
      {"ema_decay", "< 1", [](Spec* s) { s->set_ema_decay(kNan); }},
      {"log_every_steps", "1 to", [](Spec* s) { s->clear_log_every_steps(); }},
      {"checkpoint_every_steps", "1 to",
       [](Spec* s) { s->clear_checkpoint_every_steps(); }},
      {"evaluation_draws", "1024 to 16777216",
       [](Spec* s) { s->set_evaluation_draws(1023); }},
      {"evaluation_draws", "1024 to 16777216",
       [](Spec* s) { s->set_evaluation_draws((1 << 24) + 1); }},
  };
}

void ExpectRefusal(const absl::Status& status, const std::string& field,
                   const std::string& allowed) {
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << field << ": " << status;
  const std::string separator = field.find(':') == std::string::npos ? ":" : "";
  EXPECT_THAT(std::string(status.message()), StartsWith(field + separator));
  EXPECT_THAT(std::string(status.message()), HasSubstr(allowed));
}

TEST(Validate, GoodSpecsPass) {
  EXPECT_TRUE(ValidateModelSpec(GoodModel()).ok())
      << ValidateModelSpec(GoodModel());
  EXPECT_TRUE(ValidateTrainingSpec(GoodTraining()).ok())
      << ValidateTrainingSpec(GoodTraining());
}

TEST(Validate, LimitsThemselvesAreAllowed) {
  v1::ModelSpec spec = GoodModel();
  spec.mutable_lattice()->set_extent(0, 2);
  spec.mutable_lattice()->set_extent(1, 256);
  spec.set_tile(4096);
  spec.set_ess_floor(1);
  FlowOf(&spec)->set_sine_features(32);
  FlowOf(&spec)->set_gates(8);
  FlowOf(&spec)->set_time_nodes(65 - 1);
  FlowOf(&spec)->set_rk4_steps(252);
  EXPECT_TRUE(ValidateModelSpec(spec).ok()) << ValidateModelSpec(spec);
  spec.set_tile(16);
  spec.set_ess_floor(0);
  FlowOf(&spec)->set_sine_features(1);
  FlowOf(&spec)->set_gates(1);
  FlowOf(&spec)->set_time_nodes(2);
  FlowOf(&spec)->set_rk4_steps(1);
  EXPECT_TRUE(ValidateModelSpec(spec).ok()) << ValidateModelSpec(spec);

  v1::TrainingSpec training = GoodTraining();
  training.mutable_phase(0)->set_steps(10'000'000);
  training.mutable_phase(0)->set_batch(65536);
  training.set_learning_rate_final(training.learning_rate());
  training.set_evaluation_draws(1 << 24);
  training.set_clip_warmup_steps(0);
  training.set_clip_norm_warmup(0);
  training.set_ema_decay(0);
  training.mutable_from_model()->set_model("phi4-l8");
  EXPECT_TRUE(ValidateTrainingSpec(training).ok())
      << ValidateTrainingSpec(training);
}

TEST(Validate, BadModelFieldsAreNamedWithWhatIsAllowed) {
  for (const auto& bad : BadModels()) {
    v1::ModelSpec spec = GoodModel();
    bad.spoil(&spec);
    ExpectRefusal(ValidateModelSpec(spec), bad.field, bad.allowed);
  }
}

TEST(Validate, BadTrainingFieldsAreNamedWithWhatIsAllowed) {
  for (const auto& bad : BadTrainings()) {
    v1::TrainingSpec spec = GoodTraining();
    bad.spoil(&spec);
    ExpectRefusal(ValidateTrainingSpec(spec), bad.field, bad.allowed);
  }
}

// A field added to a spec without a check would pass here as it is.
TEST(Validate, EveryFieldOfASpecMatters) {
  const v1::TrainingSpec good = GoodTraining();
  const auto* descriptor = v1::TrainingSpec::descriptor();
  // 0 is a value of these: a seed, a final rate, no warm-up, no averaging.
  const std::vector<std::string> optional = {
      "seed",        "learning_rate_final", "warmup_steps", "adam_beta1",
      "adam_beta2",  "clip_warmup_steps",   "ema_decay",    "from_model",
      "from_random", "publish_every_steps", "adam_epsilon"};
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    v1::TrainingSpec spec = good;
    spec.GetReflection()->ClearField(&spec, field);
    const bool may_be_unset = std::find(optional.begin(), optional.end(),
                                        field->name()) != optional.end();
    EXPECT_EQ(ValidateTrainingSpec(spec).ok(), may_be_unset) << field->name();
  }
}

}  // namespace
}  // namespace latticed
