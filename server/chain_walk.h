// Independence Metropolis over the blocks of a stream: step t proposes draw t
// and accepts it with probability min(1, w_t / w_current).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/stats/binned_series.h"
#include "core/stats/log_weights.h"
#include "latticed/v1/chain.pb.h"
#include "server/block.h"
#include "server/tokens.h"

namespace latticed {

// The configuration a chain sits on.
struct ChainSite {
  std::vector<float> phi;  // empty unless phi is asked for
  double log_q = 0;
  double action = 0;
};

// What the steps of one chain in one call are correlated like.
struct ChainMonitor {
  BinnedSeries action;
  BinnedSeries abs_m;  // empty without phi
};

// What one block of draws did to a chain.
struct ChainSteps {
  // All fields but token and phi.
  v1::ChainBlock block;
  // Payload phi: the configuration the chain came in with, if it is kept again,
  // then the first `rows_in_place` configurations of the block.
  std::vector<float> carried_phi;
  int64_t rows_in_place = 0;
  WeightSums proposals;
  // Lengths of the runs of rejections that ended here, by an acceptance.
  std::vector<uint64_t> rejection_runs;
  int64_t non_finite_log_q = 0;
  int64_t non_finite_action = 0;
};

// Walks over the draws of `block`, which start at state->step, and moves the
// kept ones together in place. Steps before the first accepted proposal keep
// nothing: there is no configuration yet. Advances `state` and `site`.
ChainSteps WalkBlock(const Block& block, ChainState* state, ChainSite* site,
                     ChainMonitor* monitor);

}  // namespace latticed
