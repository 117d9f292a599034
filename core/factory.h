// Spec -> object: the only reader of specs. Errors are INVALID_ARGUMENT and
// name the field, what it is, what is allowed and what to try.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/repository.h"
#include "core/flow/equivariant_shape.h"
#include "core/flow/parameters.h"
#include "core/sampling/tile_sampler.h"
#include "core/theory/action.h"
#include "core/theory/phi4.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

// Every field present, in range and consistent with the others.
absl::Status ValidateModelSpec(const v1::ModelSpec& spec);
absl::Status ValidateTrainingSpec(const v1::TrainingSpec& spec);

// Requires a valid spec.
Lattice MakeLattice(const v1::Lattice& spec);
absl::StatusOr<Phi4Couplings> MakeCouplings(const v1::Action& spec);
absl::StatusOr<std::unique_ptr<const Action>> MakeAction(
    const v1::Action& spec, const v1::Lattice& lattice);

// The shape of an equivariant flow, with step_factor times the spec's RK4
// steps.
EquivariantShape MakeShape(const v1::ModelSpec& spec, int step_factor = 1);

// The flow's parameters.
ParameterLayout MakeLayout(const v1::ModelSpec& spec);

// Flat parameters <-> the tensors a checkpoint keeps.
Weights ParametersToWeights(const ParameterLayout& layout,
                            absl::Span<const float> parameters);
// FAILED_PRECONDITION if a tensor is missing or has another shape.
absl::StatusOr<std::vector<float>> WeightsToParameters(
    const ParameterLayout& layout, const Weights& weights);

enum class Kernel {
  kFused,  // core/kernels, falls back to kPlain for flows that have none
  kPlain,  // core/flow through LibTorch
};

struct SamplerOptions {
  Kernel kernel = Kernel::kFused;
  std::string device = "cpu";  // "cpu"; "cuda[:n]" with kPlain
  // Times the spec's number of RK4 steps: 2 measures the integration error.
  int step_factor = 1;
};

// FAILED_PRECONDITION if the weights do not fit the spec or the device is not
// there.
absl::StatusOr<std::unique_ptr<TileSampler>> MakeSampler(
    const v1::ModelSpec& spec, const Weights& weights,
    const SamplerOptions& options);

}  // namespace latticed
