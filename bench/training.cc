// One training gradient by the fused path gradient against LibTorch's autograd
// of the mean of log q + S through the plain flow: same flow, batch, threads,
// float32.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>

#include "bench/flows.h"
#include "bench/paired.h"
#include "core/flow/base.h"
#include "core/flow/continuous_flow.h"
#include "core/flow/equivariant_field.h"
#include "core/kernels/parallel.h"
#include "trainer/path_gradient.h"

namespace latticed {
namespace {

at::Tensor Phi4Action(const at::Tensor& phi, const Phi4Couplings& couplings) {
  const at::Tensor kinetic =
      (phi.roll(-1, 1) - phi).square() + (phi.roll(-1, 2) - phi).square();
  const at::Tensor square = phi.square();
  return (kinetic + couplings.mass_squared * square +
          couplings.lambda * square.square())
      .sum({1, 2});
}

int Run(int rounds) {
  constexpr int64_t kBatch = 64;
  SetComputeThreads(0);
  std::printf("training gradient, batch %d, %d threads: fused, autograd\n",
              static_cast<int>(kBatch), ComputeThreads());
  for (const auto& [length, lambda] :
       {std::pair<int64_t, double>{8, 6.008}, {20, 4.807}, {32, 4.572}}) {
    const v1::ModelSpec spec = bench::StandardSpec(length, lambda);
    const EquivariantShape shape = MakeShape(spec);
    const std::vector<float> start = bench::StartParameters(spec);
    auto action = MakeAction(spec.action(), spec.lattice());
    const auto couplings = MakeCouplings(spec.action());
    if (!action.ok() || !couplings.ok()) return 1;
    PathGradient path_gradient(shape, **action);
    uint64_t index = 0;
    const auto fused = [&] {
      path_gradient.Compute(start, NamedStream("bench"), index, kBatch);
      index += kBatch;
    };
    const at::Tensor parameters =
        at::tensor(at::ArrayRef<float>(start),
                   at::TensorOptions().dtype(at::kFloat))
            .requires_grad_();
    const auto autograd = [&] {
      const at::Tensor normals =
          at::randn({kBatch, length, length}, at::kFloat);
      const ContinuousFlow flow(
          std::make_unique<EquivariantField>(shape, parameters), shape.steps);
      const Draw draw = flow.Forward(StandardNormal().FromNormals(normals));
      const at::Tensor loss =
          (draw.log_q + Phi4Action(draw.phi, *couplings)).mean();
      torch::autograd::grad({loss}, {parameters});
    };
    bench::Print("steps L=" + std::to_string(length), 1,
                 bench::Compare(fused, autograd, rounds));
  }
  return 0;
}

}  // namespace
}  // namespace latticed

int main(int argc, char** argv) {
  return latticed::Run(argc > 1 ? std::atoi(argv[1]) : 5);
}
