// Flat parameters -> the tensors of their layout.
#pragma once

#include <vector>

#include "core/flow/flow.h"
#include "core/flow/parameters.h"

namespace latticed {

// Views of the flat `parameters`, in the layout's order; throws c10::Error if
// there are more or fewer than the layout says. Differentiable.
std::vector<at::Tensor> SplitParameters(const ParameterLayout& layout,
                                        const at::Tensor& parameters);

}  // namespace latticed
