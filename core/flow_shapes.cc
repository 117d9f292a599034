#include "core/flow_shapes.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/factory.h"

namespace latticed {
namespace {

CouplingTransform Convert(v1::CouplingTransform transform) {
  switch (transform) {
    case v1::COUPLING_TRANSFORM_SHIFT_SCALE:
      return CouplingTransform::kShiftScale;
    case v1::COUPLING_TRANSFORM_SCALE_SHIFT:
      return CouplingTransform::kScaleShift;
    case v1::COUPLING_TRANSFORM_SPLINE:
      return CouplingTransform::kSpline;
    default:
      return CouplingTransform::kAdditive;
  }
}

}  // namespace

EquivariantShape MakeShape(const v1::ModelSpec& spec, int step_factor) {
  const v1::EquivariantFlow& flow = spec.flow().equivariant();
  return MakeEquivariantShape(MakeLattice(spec.lattice()), flow.sine_features(),
                              flow.gates(), flow.time_nodes(),
                              int64_t{flow.rk4_steps()} * step_factor);
}

CouplingShape MakeCouplingShape(const v1::ModelSpec& spec) {
  CouplingShape shape;
  shape.lattice = MakeLattice(spec.lattice());
  for (const v1::CouplingLayers& layers : spec.flow().coupling().layers()) {
    CouplingLayer layer;
    layer.transform = Convert(layers.transform());
    layer.net.convolutional = layers.net().kernel() > 0;
    layer.net.kernel = layers.net().kernel();
    layer.net.hidden.assign(layers.net().hidden().begin(),
                            layers.net().hidden().end());
    layer.net.leaky_relu =
        layers.net().activation() == v1::ACTIVATION_LEAKY_RELU;
    layer.net.tanh_output = layers.net().tanh_output();
    layer.odd = layers.odd();
    layer.segments = layers.segments();
    layer.interval = layers.interval();
    shape.layers.insert(shape.layers.end(), layers.count(), layer);
  }
  shape.rescaling = spec.flow().coupling().global_rescaling();
  return shape;
}

PositionSpaceShape MakePositionSpaceShape(const v1::ModelSpec& spec,
                                          int step_factor) {
  const v1::PositionSpaceFlow& flow = spec.flow().position_space();
  return {.lattice = MakeLattice(spec.lattice()),
          .sines = flow.sine_features(),
          .feature_bonds = flow.feature_bonds(),
          .harmonics = flow.harmonics(),
          .time_bonds = flow.time_bonds(),
          .steps = int64_t{flow.rk4_steps()} * step_factor,
          .point_group = !flow.without_point_group(),
          .z2 = !flow.without_z2()};
}

ParameterLayout MakeLayout(const v1::ModelSpec& spec) {
  switch (spec.flow().kind_case()) {
    case v1::Flow::kPositionSpace:
      return LayoutOf(MakePositionSpaceShape(spec));
    case v1::Flow::kCoupling:
      return LayoutOf(MakeCouplingShape(spec));
    default:
      return LayoutOf(MakeShape(spec));
  }
}

Weights ParametersToWeights(const ParameterLayout& layout,
                            absl::Span<const float> parameters) {
  Weights weights;
  for (const ParameterTensor& tensor : layout) {
    const auto values = parameters.first(tensor.Size());
    weights[tensor.name] = {tensor.shape, {values.begin(), values.end()}};
    parameters.remove_prefix(tensor.Size());
  }
  return weights;
}

absl::StatusOr<std::vector<float>> WeightsToParameters(
    const ParameterLayout& layout, const Weights& weights) {
  std::vector<float> parameters;
  for (const ParameterTensor& tensor : layout) {
    const auto found = weights.find(tensor.name);
    if (found == weights.end() || found->second.shape != tensor.shape) {
      return absl::FailedPreconditionError(absl::StrCat(
          "weights: tensor '", tensor.name, "' ",
          found == weights.end() ? "is missing" : "has another shape",
          " than the spec's flow needs; republish the version with weights of "
          "its own spec"));
    }
    parameters.insert(parameters.end(), found->second.values.begin(),
                      found->second.values.end());
  }
  return parameters;
}

}  // namespace latticed
