// Long sequences of independent random numbers for tests.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/random/stream.h"

namespace latticed {

// Standard normal deviates, at most 2^26.
inline std::vector<double> NormalNoise(absl::string_view name, size_t count) {
  std::vector<float> normals(count);
  Normals(NamedStream(name), /*index=*/0, Purpose::kBaseDraw,
          absl::MakeSpan(normals));
  return {normals.begin(), normals.end()};
}

// Uniform on (0, 1].
inline std::vector<double> UniformNoise(absl::string_view name, size_t count) {
  std::vector<double> u(count);
  const StreamId stream = NamedStream(name);
  for (size_t i = 0; i < count; ++i) {
    u[i] = Uniform(stream, i, Purpose::kAccept);
  }
  return u;
}

}  // namespace latticed
