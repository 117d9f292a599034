#include "core/flow/position_space_field.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/flow/split_parameters.h"

namespace latticed {
namespace {

// exp(-2 pi i j k / L). A matrix and not a fast transform: that of PyPI's
// LibTorch rounds a field in another way at another place of the batch.
at::Tensor FourierMatrix(int64_t length, const at::TensorOptions& options) {
  const at::Tensor j =
      at::arange(length, at::TensorOptions().dtype(at::kDouble));
  const auto size = static_cast<double>(length);
  const at::Tensor angle =
      at::remainder(at::outer(j, j), size) * (2 * M_PI / size);
  return at::complex(at::cos(angle), -at::sin(angle))
      .to(options.device(),
          c10::toComplexType(c10::typeMetaToScalarType(options.dtype())));
}

}  // namespace

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
  fourier0_ = FourierMatrix(shape.lattice.l0, parameters.options());
  // Modes k and -k of a real field are conjugate: those up to L1 / 2 are kept,
  // real and imaginary part in turn, and most stand for two on the way back,
  // which also divides by V.
  const int64_t l1 = shape.lattice.l1, half = l1 / 2 + 1;
  const at::Tensor modes =
      FourierMatrix(l1, parameters.options()).narrow(1, 0, half);
  fourier1_ = at::view_as_real(modes.contiguous()).flatten(1);
  const at::Tensor k =
      at::arange(half, at::TensorOptions().device(parameters.device()));
  const at::Tensor weight =
      2 - (k.remainder(l1) == (-k).remainder(l1)).to(at::kInt);
  inverse1_ = (fourier1_.t().view({half, 2, l1}) * weight.view({half, 1, 1}))
                  .flatten(0, 1)
                  .div(static_cast<double>(shape.lattice.Sites()));
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
  const auto transform = [&](const at::Tensor& fields) {
    const at::Tensor rows = at::matmul(
        fields.reshape({fields.size(0), fields.size(1), l0, l1}), fourier1_);
    return at::matmul(fourier0_, at::view_as_complex(rows.view(
                                     {rows.size(0), rows.size(1), l0, -1, 2})));
  };
  const at::Tensor kernel = w.index_select(0, kernel_index_).t().unsqueeze(0);
  const at::Tensor modes = (at::conj(transform(kernel)) * transform(u)).sum(1);
  const at::Tensor columns = at::matmul(at::conj(fourier0_), modes);
  const at::Tensor velocity =
      at::matmul(at::view_as_real(columns).flatten(2), inverse1_);
  return {velocity, divergence};
}

}  // namespace latticed
