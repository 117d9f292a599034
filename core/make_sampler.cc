#include <ATen/ATen.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "core/flow/continuous_flow.h"
#include "core/flow/coupling_flow.h"
#include "core/flow/equivariant_field.h"
#include "core/flow/position_space_field.h"
#include "core/flow_shapes.h"
#include "core/make_flow.h"
#include "core/sampling/fused_sampler.h"
#include "core/sampling/plain_sampler.h"

namespace latticed {

std::unique_ptr<const Flow> MakeFlow(const v1::ModelSpec& spec,
                                     const at::Tensor& parameters,
                                     int step_factor) {
  switch (spec.flow().kind_case()) {
    case v1::Flow::kCoupling:
      return std::make_unique<CouplingFlow>(MakeCouplingShape(spec),
                                            parameters);
    case v1::Flow::kPositionSpace: {
      const PositionSpaceShape shape =
          MakePositionSpaceShape(spec, step_factor);
      return std::make_unique<ContinuousFlow>(
          std::make_unique<PositionSpaceField>(shape, parameters), shape.steps);
    }
    default: {
      const EquivariantShape shape = MakeShape(spec, step_factor);
      return std::make_unique<ContinuousFlow>(
          std::make_unique<EquivariantField>(shape, parameters), shape.steps);
    }
  }
}

std::unique_ptr<const BaseDistribution> MakeBase(const v1::ModelSpec& spec) {
  if (spec.base().has_free_field()) {
    return std::make_unique<FreeFieldBase>(MakeLattice(spec.lattice()),
                                           spec.base().free_field().mass());
  }
  return std::make_unique<StandardNormal>();
}

namespace {

// What of a flow's numerics its spec alone does not say.
std::string Describe(const v1::ModelSpec& spec, int step_factor) {
  switch (spec.flow().kind_case()) {
    case v1::Flow::kCoupling:
      return "couplings";
    case v1::Flow::kPositionSpace:
      return absl::StrCat(
          "rk4=", step_factor * spec.flow().position_space().rk4_steps());
    default:
      return absl::StrCat("rk4=",
                          step_factor * spec.flow().equivariant().rk4_steps());
  }
}

absl::StatusOr<std::unique_ptr<TileSampler>> MakePlainSampler(
    const v1::ModelSpec& spec, const std::vector<float>& parameters,
    std::unique_ptr<const Action> action, const SamplerOptions& options) {
  if (options.device != "cpu" && !at::hasCUDA()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "device '", options.device,
        "': this build's LibTorch finds no CUDA device; use --device=cpu, or "
        "a build of the cuda preset on a machine with a GPU"));
  }
  const at::Tensor tensor = at::tensor(at::ArrayRef<float>(parameters),
                                       at::TensorOptions().dtype(at::kFloat))
                                .to(c10::Device(options.device));
  return std::make_unique<PlainSampler>(
      MakeFlow(spec, tensor, options.step_factor), MakeBase(spec),
      std::move(action), spec.tile(), options.device,
      Describe(spec, options.step_factor));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TileSampler>> MakeSampler(
    const v1::ModelSpec& spec, const Weights& weights,
    const SamplerOptions& options) {
  if (absl::Status valid = ValidateModelSpec(spec); !valid.ok()) return valid;
  auto parameters = WeightsToParameters(MakeLayout(spec), weights);
  if (!parameters.ok()) return parameters.status();
  auto action = MakeAction(spec.action(), spec.lattice());
  if (!action.ok()) return action.status();
  const bool fused = options.kernel == Kernel::kFused &&
                     options.device == "cpu" && spec.flow().has_equivariant() &&
                     spec.base().has_standard_normal();
  if (!fused) {
    return MakePlainSampler(spec, *parameters, *std::move(action), options);
  }
  return std::make_unique<FusedSampler>(MakeShape(spec, options.step_factor),
                                        *parameters, *std::move(action),
                                        spec.tile());
}

}  // namespace latticed
