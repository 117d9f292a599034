#include "core/kernels/cpu/tables.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace latticed {

template <class T>
CasTable<T>::CasTable(int64_t extent) : n(static_cast<int>(extent)) {
  const int half = n / 2;
  const int width = (n % 2 ? half : half / 2) + 1;
  for (int j = 0; j <= half; ++j) {
    for (int k = 0; k < width; ++k) {
      // Reduced first, so that the exact zeros and ones are exact.
      const double angle = 2 * std::numbers::pi * (j * k % n) / n;
      cosine.push_back(
          static_cast<T>(4 * (j * k % n) % n == 0 && (4 * (j * k % n) / n) % 2
                             ? 0.0
                             : std::cos(angle)));
      sine.push_back(
          static_cast<T>(2 * (j * k % n) % n == 0 ? 0.0 : std::sin(angle)));
    }
  }
}

double HatWeight(const EquivariantShape& shape, int64_t m, int64_t t) {
  const double position =
      static_cast<double>(m) * (shape.nodes - 1) / (2 * shape.steps);
  return std::max(0.0, 1.0 - std::abs(position - static_cast<double>(t)));
}

template <class T>
FieldTable<T>::FieldTable(const EquivariantShape& field_shape)
    : shape(field_shape),
      orbits(shape.lattice),
      cas0(shape.lattice.l0),
      cas1(shape.lattice.l1),
      members(shape.orbits),
      omega(shape.sines),
      alpha(shape.gates) {
  for (size_t k = 0; k < orbits.of_momentum.size(); ++k) {
    members[orbits.of_momentum[k]].push_back(static_cast<int32_t>(k));
  }
  const int64_t times = 2 * shape.steps + 1;
  const int64_t kernels = shape.gates * shape.Features();
  khat.resize(times * shape.orbits * kernels);
  kernel_origin.resize(times * kernels);
}

template <class T>
void FieldTable<T>::Set(absl::Span<const float> parameters) {
  const double volume = static_cast<double>(shape.lattice.Sites());
  const int64_t kernels = shape.gates * shape.Features();
  for (int64_t f = 0; f < shape.sines; ++f) {
    omega[f] = parameters[shape.OmegaOffset() + f];
  }
  alpha[0] = 0;
  for (int64_t g = 1; g < shape.gates; ++g) {
    alpha[g] = parameters[shape.AlphaOffset() + g - 1];
  }
  for (int64_t m = 0; m <= 2 * shape.steps; ++m) {
    // A time lies between two nodes.
    const int64_t low =
        std::min(m * (shape.nodes - 1) / (2 * shape.steps), shape.nodes - 2);
    const double weight = HatWeight(shape, m, low + 1);
    const float* a = parameters.data() + low * kernels * shape.orbits;
    const float* b = a + kernels * shape.orbits;
    for (int64_t i = 0; i < kernels; ++i) {
      double origin = 0;
      for (int64_t o = 0; o < shape.orbits; ++o) {
        const double value = (1 - weight) * a[i * shape.orbits + o] +
                             weight * b[i * shape.orbits + o];
        khat[(m * shape.orbits + o) * kernels + i] =
            static_cast<T>(value / volume);
        origin += value * orbits.size[o] / volume;
      }
      kernel_origin[m * kernels + i] = static_cast<T>(origin);
    }
  }
}

template struct CasTable<float>;
template struct CasTable<double>;
template struct FieldTable<float>;
template struct FieldTable<double>;

}  // namespace latticed
