// The equivariant vector field in its published form (2110.02673 eq. 7 with the
// bonds of 2207.00283), which the field with gates (equivariant_field.h) is
// measured against. With features h_f of phi_x and K_j of t,
//
//   u_a(phi) = (1/n) sum_f C_af h_f(phi),   tau_d(t) = (1/J) sum_j T_dj K_j(t),
//   v_x      = sum_a sum_r w_{o(r),a}(t) u_a(phi_{x+r}),
//              w_{o,a}(t) = sum_d W_{o,a,d} tau_d(t),
//   div v    = sum_x sum_a w_{0,a}(t) u_a'(phi_x),
//
// h = phi, sin(omega_f phi), n of them; K = 1, sin(2 pi k t), cos(2 pi k t), J
// of them; o(r) the orbit of a displacement under the point group. The field
// commutes with translations, the point group and phi -> -phi.
//
// The ablations of 2110.02673 fig. 5: without the point group every
// displacement is its own orbit; without Z2 also cos(omega_f phi) and 1 are
// features.
#pragma once

#include "core/flow/flow.h"
#include "core/flow/position_space_shape.h"

namespace latticed {

class PositionSpaceField final : public VectorField {
 public:
  // `parameters` is flat as LayoutOf(shape); its dtype and device are the
  // field's. Differentiable in it.
  PositionSpaceField(const PositionSpaceShape& shape,
                     const at::Tensor& parameters);

  Value Evaluate(const at::Tensor& phi, double t) const override;

 private:
  PositionSpaceShape shape_;
  at::Tensor omega_;         // [F, 1, 1]
  at::Tensor feature_bond_;  // [A, features], with 1/n
  at::Tensor time_bond_;     // [D, 2K + 1], with 1/J
  at::Tensor kernel_;        // [kernel numbers, A, D]
  at::Tensor kernel_index_;  // [V] int64
  at::Tensor fourier0_;      // [L0, L0] complex
  at::Tensor fourier1_;      // [L1, 2 (L1/2 + 1)]: the real fields' half of it
  at::Tensor inverse1_;      // [2 (L1/2 + 1), L1]
};

}  // namespace latticed
