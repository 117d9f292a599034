#include <ATen/ATen.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "core/flow/base.h"
#include "core/flow/continuous_flow.h"
#include "core/flow/equivariant_field.h"
#include "core/sampling/fused_sampler.h"
#include "core/sampling/plain_sampler.h"

namespace latticed {

EquivariantShape MakeShape(const v1::ModelSpec& spec, int step_factor) {
  const v1::EquivariantFlow& flow = spec.flow().equivariant();
  return MakeEquivariantShape(MakeLattice(spec.lattice()), flow.sine_features(),
                              flow.gates(), flow.time_nodes(),
                              int64_t{flow.rk4_steps()} * step_factor);
}

Weights ParametersToWeights(const EquivariantShape& shape,
                            absl::Span<const float> parameters) {
  const auto part = [&](int64_t offset, std::vector<int64_t> dims) {
    int64_t size = 1;
    for (const int64_t d : dims) size *= d;
    const auto values = parameters.subspan(offset, size);
    return WeightTensor{std::move(dims), {values.begin(), values.end()}};
  };
  return {{"khat",
           part(0, {shape.nodes, shape.gates, shape.Features(), shape.orbits})},
          {"omega", part(shape.OmegaOffset(), {shape.sines})},
          {"alpha", part(shape.AlphaOffset(), {shape.gates - 1})}};
}

absl::StatusOr<std::vector<float>> WeightsToParameters(
    const EquivariantShape& shape, const Weights& weights) {
  std::vector<float> parameters;
  const Weights expected =
      ParametersToWeights(shape, std::vector<float>(shape.ParameterCount()));
  for (const char* name : {"khat", "omega", "alpha"}) {
    const WeightTensor& like = expected.at(name);
    const auto found = weights.find(name);
    if (found == weights.end() || found->second.shape != like.shape) {
      return absl::FailedPreconditionError(absl::StrCat(
          "weights: tensor '", name, "' ",
          found == weights.end() ? "is missing" : "has another shape",
          " than the spec's flow on ", shape.lattice.Name(),
          " needs; republish the version with weights of its own spec"));
    }
    parameters.insert(parameters.end(), found->second.values.begin(),
                      found->second.values.end());
  }
  return parameters;
}

namespace {

absl::StatusOr<std::unique_ptr<TileSampler>> MakePlainSampler(
    const v1::ModelSpec& spec, const EquivariantShape& shape,
    const std::vector<float>& parameters, std::unique_ptr<const Action> action,
    const std::string& device) {
  if (device != "cpu" && !at::hasCUDA()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "device '", device,
        "': this build's LibTorch finds no CUDA device; use --device=cpu, or "
        "a build of the cuda preset on a machine with a GPU"));
  }
  const at::Tensor tensor = at::tensor(at::ArrayRef<float>(parameters),
                                       at::TensorOptions().dtype(at::kFloat))
                                .to(c10::Device(device));
  auto flow = std::make_unique<ContinuousFlow>(
      std::make_unique<EquivariantField>(shape, tensor), shape.steps);
  std::unique_ptr<const BaseDistribution> base;
  if (spec.base().has_free_field()) {
    base = std::make_unique<FreeFieldBase>(shape.lattice,
                                           spec.base().free_field().mass());
  } else {
    base = std::make_unique<StandardNormal>();
  }
  return std::make_unique<PlainSampler>(std::move(flow), std::move(base),
                                        std::move(action), spec.tile(), device,
                                        absl::StrCat("rk4=", shape.steps));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TileSampler>> MakeSampler(
    const v1::ModelSpec& spec, const Weights& weights,
    const SamplerOptions& options) {
  if (absl::Status valid = ValidateModelSpec(spec); !valid.ok()) return valid;
  const EquivariantShape shape = MakeShape(spec, options.step_factor);
  auto parameters = WeightsToParameters(shape, weights);
  if (!parameters.ok()) return parameters.status();
  auto action = MakeAction(spec.action(), spec.lattice());
  if (!action.ok()) return action.status();
  const bool fused = options.kernel == Kernel::kFused &&
                     options.device == "cpu" &&
                     spec.base().has_standard_normal();
  if (!fused) {
    return MakePlainSampler(spec, shape, *parameters, *std::move(action),
                            options.device);
  }
  return std::make_unique<FusedSampler>(shape, *parameters, *std::move(action),
                                        spec.tile());
}

}  // namespace latticed
