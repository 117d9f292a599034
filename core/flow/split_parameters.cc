#include "core/flow/split_parameters.h"

#include <ATen/ATen.h>

namespace latticed {

std::vector<at::Tensor> SplitParameters(const ParameterLayout& layout,
                                        const at::Tensor& parameters) {
  TORCH_CHECK(
      parameters.dim() == 1 && parameters.size(0) == ParameterCount(layout),
      "a flow of ", ParameterCount(layout), " parameters is given ",
      parameters.sizes());
  std::vector<at::Tensor> tensors;
  tensors.reserve(layout.size());
  int64_t offset = 0;
  for (const ParameterTensor& tensor : layout) {
    tensors.push_back(
        parameters.narrow(0, offset, tensor.Size()).view(tensor.shape));
    offset += tensor.Size();
  }
  return tensors;
}

}  // namespace latticed
