#include "core/flow/equivariant_shape.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace latticed {

MomentumOrbits::MomentumOrbits(const Lattice& lattice) {
  using Momentum = std::array<int32_t, 2>;
  const auto representative_of = [&](int64_t k0, int64_t k1) {
    Momentum k = {static_cast<int32_t>(std::min(k0, lattice.l0 - k0)),
                  static_cast<int32_t>(std::min(k1, lattice.l1 - k1))};
    if (lattice.Square() && k[0] < k[1]) std::swap(k[0], k[1]);
    return k;
  };
  std::map<Momentum, int32_t> sizes;
  for (int64_t k0 = 0; k0 < lattice.l0; ++k0) {
    for (int64_t k1 = 0; k1 < lattice.l1; ++k1) {
      ++sizes[representative_of(k0, k1)];
    }
  }
  for (const auto& [k, unused] : sizes) representative.push_back(k);
  std::stable_sort(representative.begin(), representative.end(),
                   [&](const Momentum& a, const Momentum& b) {
                     return KhatSquared(lattice, a[0], a[1]) <
                            KhatSquared(lattice, b[0], b[1]);
                   });
  std::map<Momentum, int32_t> index;
  for (const Momentum& k : representative) {
    index[k] = static_cast<int32_t>(size.size());
    size.push_back(sizes[k]);
  }
  of_momentum.reserve(lattice.Sites());
  for (int64_t k0 = 0; k0 < lattice.l0; ++k0) {
    for (int64_t k1 = 0; k1 < lattice.l1; ++k1) {
      of_momentum.push_back(index[representative_of(k0, k1)]);
    }
  }
}

ParameterLayout LayoutOf(const EquivariantShape& shape) {
  return {
      {"khat", {shape.nodes, shape.gates, shape.Features(), shape.orbits}, {}},
      {"omega", {shape.sines}, {}},
      {"alpha", {shape.gates - 1}, {}}};
}

EquivariantShape MakeEquivariantShape(const Lattice& lattice, int64_t sines,
                                      int64_t gates, int64_t nodes,
                                      int64_t steps) {
  return {lattice, sines, gates, nodes, steps, MomentumOrbits(lattice).count()};
}

std::vector<float> FreeFieldStart(const EquivariantShape& shape, double mass,
                                  double normalisation) {
  std::vector<float> parameters(shape.ParameterCount(), 0.0f);
  const MomentumOrbits orbits(shape.lattice);
  const int64_t node_stride = shape.gates * shape.Features() * shape.orbits;
  for (int64_t o = 0; o < shape.orbits; ++o) {
    const auto [k0, k1] = orbits.representative[o];
    const double variance =
        normalisation /
        (2 * (KhatSquared(shape.lattice, k0, k1) + mass * mass));
    for (int64_t t = 0; t < shape.nodes; ++t) {
      parameters[t * node_stride + o] =
          static_cast<float>(0.5 * std::log(variance));
    }
  }
  for (int64_t f = 0; f < shape.sines; ++f) {
    const double step = shape.sines > 1 ? 4.5 / (shape.sines - 1) : 0;
    parameters[shape.OmegaOffset() + f] = static_cast<float>(0.5 + f * step);
  }
  for (int64_t g = 1; g < shape.gates; ++g) {
    parameters[shape.AlphaOffset() + g - 1] = static_cast<float>(g);
  }
  return parameters;
}

namespace {

// Where a point lies between two grid points: value = (1 - weight) v[low] +
// weight v[low + 1], with low + 1 <= last.
struct Position {
  int64_t low = 0;
  double weight = 0;
};

Position Locate(double x, int64_t last) {
  if (last == 0) return {0, 0};
  const double clamped = std::clamp(x, 0.0, static_cast<double>(last));
  const int64_t low = std::min(static_cast<int64_t>(clamped), last - 1);
  return {low, clamped - low};
}

}  // namespace

std::vector<float> Transfer(const EquivariantShape& from,
                            absl::Span<const float> parameters,
                            const EquivariantShape& to) {
  // Frequencies and gates that `from` lacks get this start's values.
  std::vector<float> result =
      FreeFieldStart(to, /*mass=*/1, /*normalisation=*/1);
  std::fill(result.begin(), result.begin() + to.KhatSize(), 0.0f);
  std::copy_n(parameters.begin() + from.OmegaOffset(), from.sines,
              result.begin() + to.OmegaOffset());
  std::copy_n(parameters.begin() + from.AlphaOffset(), from.gates - 1,
              result.begin() + to.AlphaOffset());

  const MomentumOrbits from_orbits(from.lattice);
  const MomentumOrbits to_orbits(to.lattice);
  const auto khat = [&](int64_t t, int64_t g, int64_t f, int64_t k0,
                        int64_t k1) {
    const int64_t orbit =
        from_orbits.of_momentum[(k0 % from.lattice.l0) * from.lattice.l1 +
                                k1 % from.lattice.l1];
    return parameters[((t * from.gates + g) * from.Features() + f) *
                          from.orbits +
                      orbit];
  };
  const auto scale = [](int64_t k, int64_t l_to, int64_t l_from) {
    return static_cast<double>(k) * l_from / l_to;
  };
  for (int64_t t = 0; t < to.nodes; ++t) {
    const Position time =
        Locate(static_cast<double>(t) * (from.nodes - 1) / (to.nodes - 1),
               from.nodes - 1);
    for (int64_t o = 0; o < to.orbits; ++o) {
      const auto [k0, k1] = to_orbits.representative[o];
      // One past L/2 for odd L is the mirror image: the same value.
      const Position p0 = Locate(scale(k0, to.lattice.l0, from.lattice.l0),
                                 (from.lattice.l0 + 1) / 2);
      const Position p1 = Locate(scale(k1, to.lattice.l1, from.lattice.l1),
                                 (from.lattice.l1 + 1) / 2);
      for (int64_t g = 0; g < from.gates; ++g) {
        for (int64_t f = 0; f < from.Features(); ++f) {
          double value = 0;
          for (int corner = 0; corner < 8; ++corner) {
            const int dt = corner & 1, d0 = corner >> 1 & 1, d1 = corner >> 2;
            const double weight = (dt ? time.weight : 1 - time.weight) *
                                  (d0 ? p0.weight : 1 - p0.weight) *
                                  (d1 ? p1.weight : 1 - p1.weight);
            if (weight == 0) continue;
            value +=
                weight * khat(time.low + dt, g, f, p0.low + d0, p1.low + d1);
          }
          result[((t * to.gates + g) * to.Features() + f) * to.orbits + o] =
              static_cast<float>(value);
        }
      }
    }
  }
  return result;
}

}  // namespace latticed
