// The equivariant vector field with gates (G = 1: 2110.02673 eq. 7). With
// features h_0 = phi, h_f = sin(omega_f phi), f = 1..F, and gates a_0 = 1,
// a_g = cos(alpha_g phi), g = 1..G-1,
//
//   v_x   = sum_g a_g(phi_x) q_{g,x},   q_g = sum_f K_gf(t) * h_f(phi)
//   div v = sum_x sum_g [ a_g'(phi_x) q_{g,x}
//                         + a_g(phi_x) sum_f K_gf(0; t) h_f'(phi_x) ]
//
// with * the periodic convolution. Translations, D4 (on squares; reflections
// on rectangles) and phi -> -phi commute with the flow exactly: kernels are
// even under the point group, features odd, gates even.
//
// The parameters are spectral: the eigenvalues Khat_gf(k; t_j) of the kernels
// at nodes t_j = j / (T - 1), linear in between, one for every orbit of k
// (equivariant_shape.h). Even real kernels are diagonal in the cas-cas basis
//
//   C[j, k] = (cos + sin)(2 pi j k / L) / sqrt(L),   C = C^T = C^-1.
//
// K(0) is the mean of Khat over k.
#pragma once

#include "absl/types/span.h"
#include "core/flow/equivariant_shape.h"
#include "core/flow/flow.h"

namespace latticed {

// C for one axis, [length, length].
at::Tensor CasMatrix(int64_t length, const at::TensorOptions& options);

class EquivariantField final : public VectorField {
 public:
  // `parameters` is flat as EquivariantShape lays it out; its dtype and device
  // are the field's. Differentiable in it.
  EquivariantField(const EquivariantShape& shape, const at::Tensor& parameters);

  Value Evaluate(const at::Tensor& phi, double t) const override;

 private:
  at::Tensor Transform(const at::Tensor& fields) const;

  EquivariantShape shape_;
  at::Tensor khat_;   // [T, G, F+1, orbits]
  at::Tensor omega_;  // [F, 1, 1]
  at::Tensor alpha_;  // [G-1, 1, 1]
  at::Tensor cas0_, cas1_;
  at::Tensor orbit_of_momentum_;  // [V], int64
  at::Tensor orbit_weight_;       // [orbits], size / V
};

}  // namespace latticed
