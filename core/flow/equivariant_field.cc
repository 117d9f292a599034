#include "core/flow/equivariant_field.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/flow/split_parameters.h"

namespace latticed {

at::Tensor CasMatrix(int64_t length, const at::TensorOptions& options) {
  const at::Tensor j = at::arange(length, options.dtype(at::kDouble));
  const at::Tensor angle =
      at::remainder(at::outer(j, j), length) * (2 * M_PI / length);
  return ((at::cos(angle) + at::sin(angle)) / std::sqrt(length))
      .to(options.dtype());
}

EquivariantField::EquivariantField(const EquivariantShape& shape,
                                   const at::Tensor& parameters)
    : shape_(shape) {
  const std::vector<at::Tensor> tensors =
      SplitParameters(LayoutOf(shape), parameters);
  khat_ = tensors[0];
  omega_ = tensors[1].view({shape.sines, 1, 1});
  alpha_ = tensors[2].view({shape.gates - 1, 1, 1});
  const auto options = parameters.options().requires_grad(false);
  cas0_ = CasMatrix(shape.lattice.l0, options);
  cas1_ = CasMatrix(shape.lattice.l1, options);
  const MomentumOrbits orbits(shape.lattice);
  orbit_of_momentum_ = at::tensor(at::ArrayRef<int32_t>(orbits.of_momentum),
                                  at::TensorOptions().dtype(at::kLong))
                           .to(parameters.device());
  orbit_weight_ = at::tensor(at::ArrayRef<int32_t>(orbits.size),
                             at::TensorOptions().dtype(at::kDouble))
                      .div(static_cast<double>(shape.lattice.Sites()))
                      .to(options);
}

at::Tensor EquivariantField::Transform(const at::Tensor& fields) const {
  return at::matmul(cas0_, at::matmul(fields, cas1_));
}

VectorField::Value EquivariantField::Evaluate(const at::Tensor& phi,
                                              double t) const {
  TORCH_CHECK(phi.dim() == 3 && phi.size(1) == shape_.lattice.l0 &&
                  phi.size(2) == shape_.lattice.l1,
              "equivariant field on ", shape_.lattice.Name(), ": phi is ",
              phi.sizes());
  // Khat(t) [G, F+1, orbits], and K(0; t) [G, F+1].
  const double position = t * static_cast<double>(shape_.nodes - 1);
  const int64_t low =
      std::clamp<int64_t>(static_cast<int64_t>(position), 0, shape_.nodes - 2);
  const at::Tensor khat =
      at::lerp(khat_[low], khat_[low + 1], position - static_cast<double>(low));
  const at::Tensor origin = at::matmul(khat, orbit_weight_);
  const at::Tensor kernels = khat.index_select(2, orbit_of_momentum_)
                                 .view({shape_.gates, shape_.Features(),
                                        shape_.lattice.l0, shape_.lattice.l1});

  const at::Tensor field = phi.unsqueeze(1);  // [B, 1, L_0, L_1]
  const at::Tensor features =
      at::cat({field, at::sin(omega_ * field)}, /*dim=*/1);
  const at::Tensor slopes =
      at::cat({at::ones_like(field), omega_ * at::cos(omega_ * field)}, 1);
  // q [B, G, L_0, L_1] and p_g = sum_f K_gf(0) h_f'.
  const at::Tensor q =
      Transform(at::einsum("gfkl,bfkl->bgkl", {kernels, Transform(features)}));
  const at::Tensor p = at::einsum("gf,bfxy->bgxy", {origin, slopes});
  const at::Tensor gates =
      at::cat({at::ones_like(field), at::cos(alpha_ * field)}, 1);
  const at::Tensor gate_slopes =
      at::cat({at::zeros_like(field), -alpha_ * at::sin(alpha_ * field)}, 1);
  return {(gates * q).sum(1), (gate_slopes * q + gates * p).sum({1, 2, 3})};
}

}  // namespace latticed
