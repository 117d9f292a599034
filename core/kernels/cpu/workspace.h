// Scratch fields of one evaluation of the fused field, one thread's own.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/cpu/tables.h"
#include "hwy/aligned_allocator.h"

namespace latticed {

inline constexpr int kGatesMax = 8;
inline constexpr int kSinesMax = 32;

// All pointers are [n][L_0][L_1 + 1][lanes] unless said otherwise.
template <class T>
struct Workspace {
  Workspace(const EquivariantShape& shape, int64_t lanes, bool training);

  T* spectra = nullptr;     // [F+1]
  T* convolved = nullptr;   // [G]
  T* gates = nullptr;       // [G-1], a_g
  T* gate_sines = nullptr;  // [G-1], sin(alpha_g phi)
  T* divergence = nullptr;  // local part
  T* line = nullptr;        // [F+1+G][L_0][lanes]
  // Runge-Kutta.
  T* phi = nullptr;    // of the step's start
  T* stage = nullptr;  // of the stage
  T* velocity = nullptr;
  T* sum = nullptr;  // weighted stage velocities
  // Training only.
  T* derivatives = nullptr;  // [F+1], cos(omega_f phi)
  T* divergence_gradient = nullptr;
  T* weighted = nullptr;   // [G], W
  T* reflected = nullptr;  // [F+1]
  T* score = nullptr;
  T* score_stage = nullptr;
  T* score_rate = nullptr;
  T* score_sum = nullptr;
  T* stages = nullptr;          // [4 N], phi of every stage of a forward pass
  T* alpha_gradient = nullptr;  // [G][lanes]
  T* omega_gradient = nullptr;  // [F][lanes]
  double* khat_gradient = nullptr;  // [2N+1][orbits][G][F+1]

  int64_t field_size = 0;  // elements of one field

  // Before a sum of parameter gradients.
  void ClearGradient();

 private:
  int64_t alpha_size_ = 0, omega_size_ = 0;
  hwy::AlignedFreeUniquePtr<T[]> memory_;
  std::vector<double> khat_memory_;
};

}  // namespace latticed
