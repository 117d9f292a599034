// Monotone rational-quadratic splines of one variable (1906.04032, as used by
// 2105.12481): K segments on [-a, a], the identity outside, with derivative 1
// at both ends, so that the map is differentiable everywhere.
#pragma once

#include <ATen/core/Tensor.h>

namespace latticed {

// The spline's value and the logarithm of its derivative, like x.
struct SplineValue {
  at::Tensor value;
  at::Tensor log_derivative;
};

// x [B, n]; parameters [B, 3K - 1, n]: K widths and K heights before a softmax,
// K - 1 inner derivatives before a softplus, shifted so that parameters of 0
// give the identity. Widths and heights are at least 1e-4 of 2a and derivatives
// at least 1e-4, so that nothing is divided by zero.
SplineValue ApplySpline(const at::Tensor& x, const at::Tensor& parameters,
                        double a);
// Its inverse: x of a value, and the logarithm of the inverse's derivative.
SplineValue InvertSpline(const at::Tensor& value, const at::Tensor& parameters,
                         double a);

}  // namespace latticed
