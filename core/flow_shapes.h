// Shapes of the flows that LibTorch alone computes. For the factory.
#pragma once

#include "core/flow/coupling_shape.h"
#include "core/flow/position_space_shape.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

// Require a valid spec of that kind.
CouplingShape MakeCouplingShape(const v1::ModelSpec& spec);
PositionSpaceShape MakePositionSpaceShape(const v1::ModelSpec& spec,
                                          int step_factor = 1);

}  // namespace latticed
