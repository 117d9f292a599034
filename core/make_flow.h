// Spec and parameters -> flow and base distribution, as LibTorch computes them.
#pragma once

#include <memory>

#include "core/flow/base.h"
#include "core/flow/flow.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

// Requires a valid spec, and `parameters` flat as MakeLayout(spec); their dtype
// and device are the flow's. Continuous flows take step_factor times the spec's
// RK4 steps.
std::unique_ptr<const Flow> MakeFlow(const v1::ModelSpec& spec,
                                     const at::Tensor& parameters,
                                     int step_factor = 1);

std::unique_ptr<const BaseDistribution> MakeBase(const v1::ModelSpec& spec);

}  // namespace latticed
