#include "core/flow/rational_quadratic_spline.h"

#include <ATen/ATen.h>

#include <cmath>

namespace latticed {
namespace {

constexpr double kLeast = 1e-4;
// softplus(kUnit) + kLeast = 1.
const double kUnit = std::log(std::expm1(1 - kLeast));

// The segment that each element is in: left end (x, y), width, height, slope
// height / width, and the derivatives at both ends.
struct Segment {
  at::Tensor x, y, width, height, slope, left, right;
};

// Ends of segments [B, K + 1, n] from -a to a.
at::Tensor Knots(const at::Tensor& logits, double a) {
  const double count = static_cast<double>(logits.size(1));
  const at::Tensor size =
      2 * a * (kLeast + (1 - count * kLeast) * at::softmax(logits, 1));
  const at::Tensor inner =
      at::cumsum(size, 1).narrow(1, 0, logits.size(1) - 1) - a;
  const at::Tensor end = at::full_like(logits.narrow(1, 0, 1), a);
  return at::cat({-end, inner, end}, 1);
}

// The segment that contains `point` on the axis of x, or of y.
Segment Find(const at::Tensor& point, const at::Tensor& parameters, double a,
             bool along_y) {
  const int64_t count = (parameters.size(1) + 1) / 3;
  const at::Tensor x = Knots(parameters.narrow(1, 0, count), a);
  const at::Tensor y = Knots(parameters.narrow(1, count, count), a);
  const at::Tensor inner =
      at::softplus(parameters.narrow(1, 2 * count, count - 1) + kUnit) + kLeast;
  const at::Tensor one = at::ones_like(parameters.narrow(1, 0, 1));
  const at::Tensor derivative = at::cat({one, inner, one}, 1);
  const at::Tensor ends = (along_y ? y : x).narrow(1, 1, count - 1);
  const at::Tensor low =
      (point.unsqueeze(1) >= ends).sum(1, /*keepdim=*/true);  // int64
  const auto at_low = [&](const at::Tensor& t) {
    return t.gather(1, low).squeeze(1);
  };
  const auto at_high = [&](const at::Tensor& t) {
    return t.gather(1, low + 1).squeeze(1);
  };
  Segment s;
  s.x = at_low(x);
  s.y = at_low(y);
  s.width = at_high(x) - s.x;
  s.height = at_high(y) - s.y;
  s.slope = s.height / s.width;
  s.left = at_low(derivative);
  s.right = at_high(derivative);
  return s;
}

// log dy/dx at xi = (x - x_k) / width.
at::Tensor LogDerivative(const Segment& s, const at::Tensor& xi) {
  const at::Tensor rest = 1 - xi;
  const at::Tensor numerator =
      s.right * xi * xi + 2 * s.slope * xi * rest + s.left * rest * rest;
  const at::Tensor denominator =
      s.slope + (s.right + s.left - 2 * s.slope) * xi * rest;
  return 2 * at::log(s.slope) + at::log(numerator) - 2 * at::log(denominator);
}

}  // namespace

SplineValue ApplySpline(const at::Tensor& x, const at::Tensor& parameters,
                        double a) {
  // Outside, the spline's own formula is evaluated at the end of the interval
  // and thrown away: its gradient must not be NaN.
  const at::Tensor inside = x.abs() < a;
  const at::Tensor point = at::clamp(x, -a, a);
  const Segment s = Find(point, parameters, a, /*along_y=*/false);
  const at::Tensor xi = (point - s.x) / s.width;
  const at::Tensor rest = 1 - xi;
  const at::Tensor value =
      s.y + s.height * (s.slope * xi * xi + s.left * xi * rest) /
                (s.slope + (s.right + s.left - 2 * s.slope) * xi * rest);
  return {at::where(inside, value, x),
          at::where(inside, LogDerivative(s, xi), at::zeros_like(x))};
}

SplineValue InvertSpline(const at::Tensor& value, const at::Tensor& parameters,
                         double a) {
  const at::Tensor inside = value.abs() < a;
  const at::Tensor point = at::clamp(value, -a, a);
  const Segment s = Find(point, parameters, a, /*along_y=*/true);
  // A xi^2 + B xi + C = 0; the root in [0, 1] in the form without
  // cancellation.
  const at::Tensor up = point - s.y;
  const at::Tensor bend = s.right + s.left - 2 * s.slope;
  const at::Tensor quadratic = s.height * (s.slope - s.left) + up * bend;
  const at::Tensor linear = s.height * s.left - up * bend;
  const at::Tensor constant = -s.slope * up;
  const at::Tensor root =
      at::sqrt(at::clamp_min(linear * linear - 4 * quadratic * constant, 0));
  const at::Tensor xi = 2 * constant / (-linear - root);
  return {at::where(inside, s.x + xi * s.width, value),
          at::where(inside, -LogDerivative(s, xi), at::zeros_like(value))};
}

}  // namespace latticed
