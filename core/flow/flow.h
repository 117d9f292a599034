// Normalizing flows as LibTorch computes them: the reference that the fused
// kernels are tested against, and what runs on any device.
#pragma once

#include <ATen/core/Tensor.h>

namespace latticed {

// Field configurations with the log density they were drawn from.
struct Draw {
  at::Tensor phi;    // [B, L_0, L_1], floating point, lattice units
  at::Tensor log_q;  // [B], float64, normalised, same device as phi
};

// An invertible map f between base draws (z, log r) and field configurations
// (phi, log q), with phi = f(z) and
//
//   log q(phi) = log r(z) - log |det df/dz|.
//
// For a continuous flow both sides hold up to the integrator's error, which
// the checkpoint's step-doubling figure bounds; so does Reverse after Forward.
// Both keep the shape, dtype and device of phi, and are differentiable in grad
// mode. A mis-shaped input throws c10::Error: callers check shapes at the edge.
// Thread-compatible.
class Flow {
 public:
  virtual ~Flow() = default;

  Draw Forward(const Draw& z) const {
    Draw draw = z;
    for (int64_t i = 0; i < Stages(); ++i) draw = ForwardStage(i, draw);
    return draw;
  }
  Draw Reverse(const Draw& phi) const {
    Draw draw = phi;
    for (int64_t i = Stages(); i-- > 0;) draw = ReverseStage(i, draw);
    return draw;
  }

  // What f is composed of, the first stage first: Runge-Kutta steps, couplings.
  // 0 <= stage < Stages().
  virtual int64_t Stages() const = 0;
  virtual Draw ForwardStage(int64_t stage, const Draw& draw) const = 0;
  virtual Draw ReverseStage(int64_t stage, const Draw& draw) const = 0;
};

// The right-hand side of d phi / dt = v(phi, t) on [0, 1], with div v =
// sum_x d v_x / d phi_x.
class VectorField {
 public:
  struct Value {
    at::Tensor velocity;    // like phi
    at::Tensor divergence;  // [B], dtype of phi
  };
  virtual ~VectorField() = default;
  virtual Value Evaluate(const at::Tensor& phi, double t) const = 0;
};

}  // namespace latticed
