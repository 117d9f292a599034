#include "trainer/total_gradient.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "core/factory.h"
#include "core/make_flow.h"

namespace latticed {

TotalGradient::TotalGradient(const v1::ModelSpec& spec, const Action& action)
    : spec_(spec), action_(action), base_(MakeBase(spec)) {}

LossGradientResult TotalGradient::ComputeShare(
    absl::Span<const float> parameters, const StreamId& stream,
    uint64_t first_index, int64_t count, int64_t batch) {
  const Lattice lattice = action_.lattice();
  const int64_t sites = lattice.Sites();
  const at::Tensor leaf =
      at::tensor(at::ArrayRef<float>(parameters.data(), parameters.size()),
                 at::TensorOptions().dtype(at::kFloat))
          .requires_grad_();
  const std::unique_ptr<const Flow> flow = MakeFlow(spec_, leaf);

  at::Tensor normals = at::empty({count, lattice.l0, lattice.l1}, at::kFloat);
  for (int64_t i = 0; i < count; ++i) {
    Normals(stream, first_index + i, Purpose::kBaseDraw,
            absl::MakeSpan(normals.data_ptr<float>() + i * sites, sites));
  }
  std::vector<at::Tensor> fields;  // before each stage
  Draw draw;
  {
    const c10::NoGradGuard no_grad;
    draw = base_->FromNormals(normals);
    for (int64_t i = 0; i < flow->Stages(); ++i) {
      fields.push_back(draw.phi);
      draw = flow->ForwardStage(i, draw);
    }
  }

  // dL/dphi at the end: grad S / batch. dL/dlog q is 1 / batch everywhere,
  // since every stage adds to log q.
  LossGradientResult result;
  const at::Tensor phi = draw.phi.contiguous();
  at::Tensor cotangent = at::empty_like(phi);
  std::vector<double> field(sites), gradient(sites);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(phi.data_ptr<float>() + i * sites, sites, field.begin());
    const double log_w =
        -action_.Evaluate(field) - draw.log_q.data_ptr<double>()[i];
    result.log_w.push_back(std::isfinite(log_w) ? log_w : std::nan(""));
    action_.Gradient(field, absl::MakeSpan(gradient));
    for (int64_t x = 0; x < sites; ++x) {
      cotangent.data_ptr<float>()[i * sites + x] =
          static_cast<float>(gradient[x] / static_cast<double>(batch));
    }
  }
  const at::Tensor zero = at::zeros({count}, at::kDouble);
  const at::Tensor share = at::full({count}, 1.0 / batch, at::kDouble);
  at::Tensor sum = at::zeros({leaf.size(0)}, at::kDouble);
  for (int64_t i = flow->Stages(); i-- > 0;) {
    const at::Tensor start = fields[i].detach().requires_grad_();
    const Draw end = flow->ForwardStage(i, {start, zero});
    std::vector<at::Tensor> ends = {end.phi}, cotangents = {cotangent};
    if (end.log_q.requires_grad()) {  // a volume-preserving stage has none
      ends.push_back(end.log_q);
      cotangents.push_back(share);
    }
    // The graph from the parameters to the flow's tensors serves every stage.
    const auto pulled_back =
        torch::autograd::grad(ends, {start, leaf}, cotangents,
                              /*retain_graph=*/true, /*create_graph=*/false,
                              /*allow_unused=*/true);
    cotangent = pulled_back[0];
    if (pulled_back[1].defined()) sum += pulled_back[1];
    fields.pop_back();
  }
  result.gradient.assign(sum.data_ptr<double>(),
                         sum.data_ptr<double>() + sum.numel());
  SumUp(&result);
  return result;
}

}  // namespace latticed
