#include "core/flow/coupling_flow.h"

#include <ATen/ATen.h>

#include "core/flow/rational_quadratic_spline.h"
#include "core/flow/split_parameters.h"

namespace latticed {

CouplingFlow::CouplingFlow(const CouplingShape& shape,
                           const at::Tensor& parameters)
    : shape_(shape) {
  const std::vector<at::Tensor> tensors =
      SplitParameters(LayoutOf(shape), parameters);
  auto next = tensors.begin();
  for (const CouplingLayer& spec : shape.layers) {
    Layer& layer = layers_.emplace_back();
    for (size_t j = 0; j <= spec.net.hidden.size(); ++j) {
      layer.weights.push_back(*next++);
      if (!spec.odd) layer.biases.push_back(*next++);
    }
  }
  if (shape.rescaling) log_scale_ = *next;

  const auto options = parameters.options().requires_grad(false);
  for (int parity = 0; parity < 2; ++parity) {
    const std::vector<int64_t> sites = SitesOfParity(shape.lattice, parity);
    sites_[parity] = at::tensor(at::ArrayRef<int64_t>(sites),
                                options.dtype(at::kLong).device(at::kCPU))
                         .to(options.device());
    mask_[parity] = at::zeros({shape.lattice.Sites()}, options)
                        .index_fill(0, sites_[parity], 1)
                        .view({shape.lattice.l0, shape.lattice.l1});
  }
}

int64_t CouplingFlow::Stages() const {
  return static_cast<int64_t>(layers_.size()) + (shape_.rescaling ? 1 : 0);
}

Draw CouplingFlow::ForwardStage(int64_t stage, const Draw& draw) const {
  if (stage == static_cast<int64_t>(layers_.size())) return Rescale(draw, 1);
  return Couple(stage, draw, /*forward=*/true);
}

Draw CouplingFlow::ReverseStage(int64_t stage, const Draw& draw) const {
  if (stage == static_cast<int64_t>(layers_.size())) return Rescale(draw, -1);
  return Couple(stage, draw, /*forward=*/false);
}

Draw CouplingFlow::Rescale(const Draw& draw, double sign) const {
  const double sites = static_cast<double>(shape_.lattice.Sites());
  return {draw.phi * at::exp(sign * log_scale_),
          draw.log_q - sign * sites * log_scale_.to(at::kDouble)};
}

at::Tensor CouplingFlow::RunNet(int64_t index, const at::Tensor& phi) const {
  const Layer& layer = layers_[index];
  const CouplingLayer& spec = shape_.layers[index];
  const CouplingNet& net = spec.net;
  const int64_t active = index % 2, passive = 1 - active;
  at::Tensor x = net.convolutional
                     ? (phi * mask_[passive]).unsqueeze(1)
                     : phi.flatten(1).index_select(1, sites_[passive]);
  const int64_t pad = net.kernel / 2;
  for (size_t j = 0; j < layer.weights.size(); ++j) {
    const at::Tensor bias =
        layer.biases.empty() ? at::Tensor() : layer.biases[j];
    if (net.convolutional) {
      x = at::conv2d(at::pad(x, {pad, pad, pad, pad}, "circular"),
                     layer.weights[j], bias);
    } else {
      x = at::linear(x, layer.weights[j], bias);
    }
    if (j + 1 < layer.weights.size()) {
      x = net.leaky_relu ? at::leaky_relu(x, 0.01) : at::tanh(x);
    } else if (net.tanh_output) {
      x = at::tanh(x);
    }
  }
  if (net.convolutional) return x.flatten(2).index_select(2, sites_[active]);
  return x.view({x.size(0), spec.Outputs(), -1});
}

Draw CouplingFlow::Couple(int64_t index, const Draw& draw, bool forward) const {
  const CouplingLayer& spec = shape_.layers[index];
  const at::Tensor& sites = sites_[index % 2];
  const at::Tensor numbers = RunNet(index, draw.phi);
  const at::Tensor all = draw.phi.flatten(1);
  const at::Tensor old = all.index_select(1, sites);
  at::Tensor changed, log_derivative;  // [B, active sites]
  switch (spec.transform) {
    case CouplingTransform::kAdditive: {
      const at::Tensor t = numbers.select(1, 0);
      changed = forward ? old - t : old + t;
      log_derivative = at::zeros_like(old);
      break;
    }
    case CouplingTransform::kShiftScale:
    case CouplingTransform::kScaleShift: {
      // Each is the other's inverse.
      const bool scale_first =
          (spec.transform == CouplingTransform::kScaleShift) == forward;
      const at::Tensor t = numbers.select(1, 1);
      at::Tensor s = numbers.select(1, 0);
      if (spec.odd) s = s.abs();
      changed = scale_first ? old * at::exp(s) + t : (old - t) * at::exp(-s);
      log_derivative = scale_first ? s : -s;
      break;
    }
    case CouplingTransform::kSpline: {
      const SplineValue spline =
          forward ? ApplySpline(old, numbers, spec.interval)
                  : InvertSpline(old, numbers, spec.interval);
      changed = spline.value;
      log_derivative = spline.log_derivative;
      break;
    }
  }
  return {all.index_copy(1, sites, changed).view(draw.phi.sizes()),
          draw.log_q - log_derivative.to(at::kDouble).sum(1)};
}

}  // namespace latticed
