// Small specs of every kind of flow, for the properties that all must have.
#pragma once

#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "core/factory.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

struct FlowCase {
  std::string name;
  std::string flow;  // v1::Flow in text format
  // What f commutes with, beyond translations by even distances.
  bool z2 = false;
  bool point_group = false;
  bool even_translations = true;
  bool exact = true;  // log q and the inverse have no integration error
};

inline std::vector<FlowCase> FlowCases() {
  return {
      {"equivariant",
       "equivariant { sine_features: 3 gates: 2 time_nodes: 3 rk4_steps: 12 }",
       true, true, true, false},
      {"position_space",
       "position_space { sine_features: 5 feature_bonds: 4 harmonics: 2 "
       "time_bonds: 3 rk4_steps: 12 }",
       true, true, true, false},
      {"without_point_group",
       "position_space { sine_features: 5 feature_bonds: 4 harmonics: 2 "
       "time_bonds: 3 rk4_steps: 12 without_point_group: true }",
       true, false, true, false},
      {"without_z2",
       "position_space { sine_features: 5 feature_bonds: 4 harmonics: 2 "
       "time_bonds: 3 rk4_steps: 12 without_z2: true }",
       false, true, true, false},
      {"without_both",
       "position_space { sine_features: 5 feature_bonds: 4 harmonics: 2 "
       "time_bonds: 3 rk4_steps: 12 without_point_group: true "
       "without_z2: true }",
       false, false, true, false},
      {"real_nvp",
       "coupling { layers { count: 4 transform: COUPLING_TRANSFORM_SCALE_SHIFT "
       "net { hidden: 4 hidden: 4 kernel: 3 activation: ACTIVATION_LEAKY_RELU "
       "tanh_output: true } } }"},
      {"additive",
       "coupling { layers { count: 3 transform: COUPLING_TRANSFORM_ADDITIVE "
       "net { hidden: 6 activation: ACTIVATION_TANH } } "
       "global_rescaling: true }",
       false, false, false},
      {"affine_odd",
       "coupling { layers { count: 2 transform: COUPLING_TRANSFORM_SHIFT_SCALE "
       "net { hidden: 6 activation: ACTIVATION_TANH } odd: true } "
       "global_rescaling: true }",
       true, false, false},
      {"affine_odd_convolutional",
       "coupling { layers { count: 2 transform: COUPLING_TRANSFORM_SHIFT_SCALE "
       "net { hidden: 4 kernel: 3 activation: ACTIVATION_TANH } odd: true } }",
       true},
      {"spline",
       "coupling { layers { count: 1 transform: COUPLING_TRANSFORM_SHIFT_SCALE "
       "net { hidden: 6 activation: ACTIVATION_TANH } } "
       "layers { count: 2 transform: COUPLING_TRANSFORM_SPLINE net { hidden: 6 "
       "activation: ACTIVATION_LEAKY_RELU } segments: 5 interval: 1.5 } }",
       false, false, false},
  };
}

inline void PrintTo(const FlowCase& flow, std::ostream* out) {
  *out << flow.name;
}

// Parameters far enough from the start that nothing is zero or symmetric by
// accident.
inline std::vector<float> FlowParameters(const v1::ModelSpec& spec,
                                         double noise) {
  const ParameterLayout layout = MakeLayout(spec);
  std::vector<float> values = spec.flow().has_equivariant()
                                  ? FreeFieldStart(MakeShape(spec), 0.8, 0.8)
                                  : RandomStart(layout, NamedStream("flows"));
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  // In position space the kernel, the last tensor, starts at 0 and is divided
  // by n J; the others are random already.
  const bool position_space = spec.flow().has_position_space();
  const int64_t from =
      position_space ? ParameterCount(layout) - layout.back().Size() : 0;
  const double scale = position_space ? 10 * noise : noise;
  for (size_t i = from; i < values.size(); ++i) {
    values[i] += static_cast<float>(scale) * normal(generator);
  }
  return values;
}

// phi^4 at L = 4.
inline v1::ModelSpec FlowSpec(const FlowCase& flow) {
  v1::ModelSpec spec;
  const bool parsed = google::protobuf::TextFormat::ParseFromString(
      "action { phi4 { latticed { mass_squared: -4 lambda: 8 } } } "
      "lattice { extent: 4 extent: 4 } base { standard_normal {} } flow { " +
          flow.flow + " } dtype: DTYPE_FLOAT32 tile: 32",
      &spec);
  EXPECT_TRUE(parsed) << flow.name;
  return spec;
}

}  // namespace latticed
