#include "core/flow/position_space_field.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/flow/split_parameters.h"

namespace latticed {

PositionSpaceField::PositionSpaceField(const PositionSpaceShape& shape,
                                       const at::Tensor& parameters)
    : shape_(shape) {
  const std::vector<at::Tensor> tensors =
      SplitParameters(LayoutOf(shape), parameters);
  omega_ = tensors[0].view({shape.sines, 1, 1});
  feature_bond_ = tensors[1] / static_cast<double>(shape.Features());
  time_bond_ = tensors[2] / static_cast<double>(shape.TimeFeatures());
  kernel_ = tensors[3];
  kernel_index_ = at::tensor(at::ArrayRef<int64_t>(shape.KernelIndex()),
                             at::TensorOptions().dtype(at::kLong))
                      .to(parameters.device());
}

VectorField::Value PositionSpaceField::Evaluate(const at::Tensor& phi,
                                                double t) const {
  const int64_t l0 = shape_.lattice.l0, l1 = shape_.lattice.l1;
  TORCH_CHECK(phi.dim() == 3 && phi.size(1) == l0 && phi.size(2) == l1,
              "position-space field on ", shape_.lattice.Name(), ": phi is ",
              phi.sizes());
  std::vector<double> times = {1};
  for (int64_t k = 1; k <= shape_.harmonics; ++k) {
    const double angle = 2 * M_PI * static_cast<double>(k) * t;
    times.insert(times.end(), {std::sin(angle), std::cos(angle)});
  }
  const auto options = kernel_.options().requires_grad(false);
  const at::Tensor tau =
      at::matmul(time_bond_, at::tensor(at::ArrayRef<double>(times),
                                        at::TensorOptions().dtype(at::kDouble))
                                 .to(options));
  const at::Tensor w = at::matmul(kernel_, tau);  // [kernel numbers, A]

  const at::Tensor field = phi.unsqueeze(1);
  const at::Tensor angle = omega_ * field;
  const at::Tensor sines = at::sin(angle), cosines = at::cos(angle);
  std::vector<at::Tensor> h = {field, sines};
  std::vector<at::Tensor> slopes = {at::ones_like(field), omega_ * cosines};
  if (!shape_.z2) {
    h.insert(h.end(), {cosines, at::ones_like(field)});
    slopes.insert(slopes.end(), {-omega_ * sines, at::zeros_like(field)});
  }
  // u [B, A, V], one matrix product for each configuration.
  const at::Tensor u = at::matmul(feature_bond_, at::cat(h, 1).flatten(2));
  // sum_a w_{0,a} C_af, then over features and sites.
  const at::Tensor p = at::matmul(w[0], feature_bond_);
  const at::Tensor divergence =
      at::matmul(p, at::cat(slopes, 1).flatten(2)).sum(1);

  // sum_r w(r) u(x + r) has Fourier modes conj(w_k) u_k.
  const at::Tensor kernel =
      w.index_select(0, kernel_index_).t().reshape({-1, l0, l1});
  const at::Tensor modes =
      (at::conj(at::fft_rfft2(kernel)) *
       at::fft_rfft2(u.reshape({u.size(0), u.size(1), l0, l1})))
          .sum(1);
  return {at::fft_irfft2(modes, at::IntArrayRef({l0, l1})), divergence};
}

}  // namespace latticed
