// The equivariant continuous flow (core/flow/equivariant_field.h,
// core/flow/continuous_flow.h) fused for CPU vectors: one configuration a lane,
// so every configuration's arithmetic is its own and its bits depend on neither
// its neighbours nor the vector width.
//
// T = float is what serves and trains; T = double is what the formulas are
// tested with. Configurations are [n, L_0, L_1] in C order, 1 <= n <= Lanes().
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "core/kernels/cpu/tables.h"
#include "core/kernels/cpu/workspace.h"

namespace latticed {

// Whether the instruction set in use rounds a * b + c once. All that do give
// the same bits.
bool FusesMultiplyAdd();

// Thread-compatible: const calls may overlap, each with a workspace of its own.
template <class T>
class EquivariantKernel {
 public:
  // sines <= kSinesMax, gates <= kGatesMax, extents <= kExtentMax.
  explicit EquivariantKernel(const EquivariantShape& shape);

  static int64_t Lanes();
  const EquivariantShape& shape() const { return table_.shape; }
  Workspace<T> MakeWorkspace(bool training) const;

  void SetParameters(absl::Span<const float> parameters);

  // phi = f(z) by N RK4 steps; log_q[i] += -int_0^1 div v dt.
  void Forward(Workspace<T>& space, int64_t n, const T* z, T* phi,
               double* log_q) const;
  // z = f^-1(phi) by N RK4 steps backwards, not the inverse of the discrete
  // map; log_q[i] += -int_0^1 div v dt along the way.
  void Reverse(Workspace<T>& space, int64_t n, const T* phi, T* z,
               double* log_q) const;

  // Forward with the score s = grad log q integrated along,
  //   ds/dt = -J^T s - grad div v;
  // score holds grad log r(z) on entry, grad log q(phi) on return. Keeps the
  // stages for Backward in the workspace, which must be a training one.
  void ForwardScore(Workspace<T>& space, int64_t n, const T* z, T* phi,
                    T* score, double* log_q) const;
  // The exact adjoint of the discrete map z -> phi(1) of the ForwardScore call
  // before: cotangent is phibar(1) on entry and zbar on return; adds the
  // gradient of sum_i phibar(1)_i phi(1)_i in the parameters to the
  // workspace's sums. Configurations past n contribute nothing.
  void Backward(Workspace<T>& space, int64_t n, T* cotangent) const;
  // Adds the workspace's sums to gradient, laid out as the parameters.
  void AddGradient(const Workspace<T>& space,
                   absl::Span<double> gradient) const;

  // One evaluation at half-step time m: velocity, divergence [n], the score's
  // rate for score s, and J^T s. For tests.
  void Evaluate(Workspace<T>& space, int64_t n, int64_t m, const T* phi,
                const T* s, T* velocity, double* divergence, T* rate,
                T* pulled) const;

 private:
  FieldTable<T> table_;
};

extern template class EquivariantKernel<float>;
extern template class EquivariantKernel<double>;

}  // namespace latticed
