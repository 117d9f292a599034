#include "core/kernels/cpu/workspace.h"

#include <algorithm>
#include <utility>

namespace latticed {

template <class T>
Workspace<T>::Workspace(const EquivariantShape& shape, int64_t lanes,
                        bool training)
    : field_size(shape.lattice.l0 * (shape.lattice.l1 + 1) * lanes) {
  const int64_t features = shape.Features();
  const int64_t others = std::max<int64_t>(shape.gates - 1, 1);
  std::vector<std::pair<T**, int64_t>> parts = {
      {&spectra, features * field_size},
      {&convolved, shape.gates * field_size},
      {&gates, others * field_size},
      {&gate_sines, others * field_size},
      {&divergence, field_size},
      {&line, (features + shape.gates) * shape.lattice.l0 * lanes},
      {&phi, field_size},
      {&stage, field_size},
      {&velocity, field_size},
      {&sum, field_size}};
  if (training) {
    parts.insert(parts.end(), {{&derivatives, features * field_size},
                               {&divergence_gradient, field_size},
                               {&weighted, shape.gates * field_size},
                               {&reflected, features * field_size},
                               {&score, field_size},
                               {&score_stage, field_size},
                               {&score_rate, field_size},
                               {&score_sum, field_size},
                               {&stages, 4 * shape.steps * field_size},
                               {&alpha_gradient, shape.gates * lanes},
                               {&omega_gradient, shape.sines * lanes}});
    alpha_size_ = shape.gates * lanes;
    omega_size_ = shape.sines * lanes;
    khat_memory_.resize((2 * shape.steps + 1) * shape.orbits * shape.gates *
                        features);
    khat_gradient = khat_memory_.data();
  }
  int64_t total = 0;
  for (const auto& [pointer, size] : parts) total += size;
  memory_ = hwy::AllocateAligned<T>(total);
  std::fill_n(memory_.get(), total, T{0});
  T* next = memory_.get();
  for (const auto& [pointer, size] : parts) {
    *pointer = next;
    next += size;
  }
}

template <class T>
void Workspace<T>::ClearGradient() {
  std::fill_n(alpha_gradient, alpha_size_, T{0});
  std::fill_n(omega_gradient, omega_size_, T{0});
  std::fill(khat_memory_.begin(), khat_memory_.end(), 0.0);
}

template struct Workspace<float>;
template struct Workspace<double>;

}  // namespace latticed
