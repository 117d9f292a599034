// Independence Metropolis over the blocks of a stream: step t proposes draw t
// and accepts it with probability min(1, w_t / w_current). With an update,
// steps that are multiples of its interval begin with one.
#pragma once

#include <cstdint>
#include <memory>
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
  std::vector<float> phi;  // empty unless phi is drawn
  double log_q = 0;
  double action = 0;
};

// What the steps of one chain in one call are like.
struct ChainMonitor {
  BinnedSeries action;
  BinnedSeries abs_m;  // empty without phi
  uint64_t updates = 0;
  double update_acceptance = 0;  // sum over updates
};

// What one block of draws did to a chain.
struct ChainSteps {
  // All fields but token, chain and phi.
  v1::ChainBlock block;
  // Payload phi: rows that are not of the block's draws, which are the
  // configuration that the chain came in with and updated ones, then the first
  // `rows_in_place` configurations of the block.
  std::vector<float> carried_phi;
  int64_t rows_in_place = 0;
  WeightSums proposals;
  // Lengths of the runs of rejections that ended here, by an acceptance.
  std::vector<uint64_t> rejection_runs;
  int64_t non_finite_log_q = 0;
  int64_t non_finite_action = 0;
};

// Walks over the draws of one block, which start at state->step. Steps before
// the first accepted proposal keep nothing: there is no configuration yet.
// `state`, `site` and `monitor` outlive the walk, which alone advances them.
class BlockWalk {
 public:
  BlockWalk(std::unique_ptr<Block> block, ChainState* state, ChainSite* site,
            ChainMonitor* monitor);

  // True at the block's end; false where an update is due. Then UpdateDone must
  // be called before the next Advance.
  bool Advance();
  // The update of site->phi led to `updated`; undone if its weight is not
  // finite.
  void UpdateDone(ChainSite updated);
  // After Advance has returned true: moves the kept configurations together in
  // place.
  ChainSteps Finish();

  const Block& block() const { return *block_; }

 private:
  // A row of the payload; those that are not of the block are in carried_phi.
  struct Row {
    int64_t position;  // in the block, or -1
    uint64_t index;
    uint64_t updates;
    double log_q;
    double action;
  };

  void Propose();
  // Steps [next_, end) of the block, none of which begins with an update.
  void WalkTo(int64_t end);
  // Keeps the configuration the chain sits on.
  void Keep(int64_t position);
  void MoveTo(int64_t position);

  const std::unique_ptr<Block> block_;
  ChainState* const state_;
  ChainSite* const site_;
  ChainMonitor* const monitor_;
  const size_t sites_;
  ChainSteps steps_;
  // Log weights and acceptance uniforms of the block's draws.
  std::vector<double> log_w_;
  std::vector<double> log_u_;
  std::string accept_;
  std::vector<Row> rows_;
  std::vector<uint32_t> kept_;   // rows, one a kept configuration
  bool row_is_current_ = false;  // the last row is where the chain sits
  int64_t next_ = 0;
  bool updated_ = false;  // step next_ has had its update
};

}  // namespace latticed
