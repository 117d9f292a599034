// Draws 0, 1, ... of a stream, one after the other.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "core/sampling/tile_sampler.h"

namespace latticed {

// phi [V], log q and S of a draw; false ends it.
using VisitDraw = absl::FunctionRef<bool(absl::Span<const float> phi,
                                         double log_q, double action)>;

// Draws 0..draws-1 in whole tiles. Returns the processor time of drawing alone.
double DrawAll(TileSampler& sampler, const StreamId& stream, int64_t draws,
               VisitDraw visit);

}  // namespace latticed
