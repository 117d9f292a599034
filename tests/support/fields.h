// Random fields for tests.
#pragma once

#include <cstdint>
#include <vector>

#include "core/random/stream.h"
#include "core/theory/lattice.h"

namespace latticed {

// Independent standard normal values; another field for every index.
inline std::vector<double> NoiseField(const Lattice& lattice, uint64_t index) {
  std::vector<float> normals(lattice.Sites());
  Normals(NamedStream("test field"), index, Purpose::kBaseDraw,
          absl::MakeSpan(normals));
  return {normals.begin(), normals.end()};
}

// The field at x + (d0, d1), periodic.
inline std::vector<double> Translated(const Lattice& lattice,
                                      const std::vector<double>& phi,
                                      int64_t d0, int64_t d1) {
  std::vector<double> out(phi.size());
  for (int64_t x0 = 0; x0 < lattice.l0; ++x0) {
    for (int64_t x1 = 0; x1 < lattice.l1; ++x1) {
      out[x0 * lattice.l1 + x1] =
          phi[(x0 + d0) % lattice.l0 * lattice.l1 + (x1 + d1) % lattice.l1];
    }
  }
  return out;
}

}  // namespace latticed
