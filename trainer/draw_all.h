// Draws of a stream, one after the other.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "core/sampling/tile_sampler.h"

namespace latticed {

// phi [V], log q and S of a draw; false ends it.
using VisitDraw = absl::FunctionRef<bool(absl::Span<const float> phi,
                                         double log_q, double action)>;

// Draws first..end-1; none if first >= end.
struct DrawRange {
  int64_t first = 0;
  int64_t end = 0;
};

// In whole tiles from the first one on. Returns the processor time of drawing
// alone.
double DrawAll(TileSampler& sampler, const StreamId& stream, DrawRange range,
               VisitDraw visit);

}  // namespace latticed
