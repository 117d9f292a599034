// Draws phi ~ q with log q and S, in tiles.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "absl/types/span.h"
#include "core/random/stream.h"
#include "core/theory/lattice.h"

namespace latticed {

// One draw: sample `index` of a stream.
struct DrawId {
  StreamId stream;
  uint64_t index = 0;
};

// The device is lost for this process: nothing can be drawn any more.
class DeviceLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// n configurations, C order. phi is [n, L_0, L_1]; log_q and action are [n];
// all belong to the caller. log w = -action - log_q.
struct DrawSpans {
  absl::Span<float> phi;
  absl::Span<double> log_q;
  absl::Span<double> action;
};

// The bytes of a draw are a function of (weights, numerics mode, DrawId) only:
// not of its neighbours in the tile, its place there, or how full the tile is.
//
// S and log q are those of the returned float32 phi, log q up to the
// integration error that the manifest's step-doubling figures bound.
// Non-finite results are returned as they are: callers report them. A device
// that has no memory left throws std::bad_alloc and can be tried again; one
// that is lost throws DeviceLost.
// Not thread-safe: one owner. Uses the process's compute threads.
class TileSampler {
 public:
  virtual ~TileSampler() = default;

  virtual const Lattice& lattice() const = 0;
  // Largest number of draws in one call.
  virtual int64_t tile() const = 0;
  // What must match for draws to be the same bytes, e.g.
  // "float32 tile=128 rk4=8 fused fma cpu".
  virtual std::string numerics_mode() const = 0;

  // 1 <= ids.size() <= tile(); out spans have ids.size() configurations.
  virtual void Draw(absl::Span<const DrawId> ids, const DrawSpans& out) = 0;

  // log q and S of given configurations, phi [n, L_0, L_1], n <= tile().
  virtual void Evaluate(absl::Span<const float> phi, absl::Span<double> log_q,
                        absl::Span<double> action) = 0;
};

}  // namespace latticed
