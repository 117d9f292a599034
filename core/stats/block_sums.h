// Sums of a measurement in a bounded number of blocks, however long it runs:
// what observables, log Z, ESS and their errors are computed from, and what
// shards are merged by.
//
// A block covers block_size() consecutive positions (draws, or steps of a
// chain), the last one fewer. When there are blocks_max of them, neighbours are
// merged in pairs and block_size() doubles. Where a block begins depends on the
// position alone, and sums are formed in pairs of pairs, so the blocks of
// shards that each cover a multiple of the final block size are, once appended,
// bit for bit those of one long run with the same reference; other shards agree
// to rounding in every sum, and in errors up to where blocks begin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/stats/log_weights.h"
#include "core/stats/observables.h"

namespace latticed {

// Weights are w = exp(log w - reference).
struct BlockSum {
  uint64_t positions = 0;   // non-finite ones included
  uint64_t non_finite = 0;  // left out of every sum
  double sum_w = 0;
  double sum_w2 = 0;
  // What `sums` is to be divided by: sum of w for draws, steps that had a
  // configuration for a chain.
  double measured = 0;
  // Of weight times M^2, |M|, M^4, phi^2, link, F, S/V, Gt(0..L_1/2).
  std::vector<double> sums;
};

// Thread-compatible.
class BlockSums {
 public:
  // Enough for a jackknife of draws, and for the Gamma method over the blocks
  // of a chain.
  static constexpr size_t kDrawBlocksMax = 128;
  static constexpr size_t kChainBlocksMax = 4096;

  // The reference gives way to a first weight, and to any larger one, that is
  // e^200 away, so that nothing overflows.
  BlockSums(int64_t l0, int64_t l1, bool chain, double log_w_reference);

  // A draw, or a step of a chain: log w of the draw or proposal, and the
  // configuration that is measured, for a chain the one it sits on after the
  // step; null where there is none. Log weights that are NaN or +inf are
  // counted and left out.
  void Add(double log_w, const Measurement* measurement);

  // Requires the same lattice and kind. What `other` holds follows what is
  // here.
  void Append(BlockSums other);
  // Merges neighbours until there are at most `blocks`, >= 1.
  void Coarsen(size_t blocks);

  // As they came over the wire: false unless every block has finite sums of
  // the right number and at most `block_size` positions.
  bool Restore(uint64_t block_size, std::vector<BlockSum> blocks);

  bool chain() const { return chain_; }
  size_t primaries() const { return primaries_; }
  double log_w_reference() const { return log_w_reference_; }
  uint64_t block_size() const { return block_size_; }
  std::vector<BlockSum> blocks() const;
  BlockSum Total() const;

  // Delete-one-block jackknife; log Z is -inf and ESS 0 with nothing to go by.
  Estimate LogZ() const;
  Estimate Ess() const;
  // Keys as in observables.h; empty with nothing to go by.
  std::map<std::string, Estimate> JackknifeObservables() const;
  // For one chain, not for appended ones: Gamma method over the means of whole
  // blocks, EstimateChain as long as a block is one step.
  std::map<std::string, Estimate> GammaObservables() const;
  // Of chi_2, given its estimate, for a chain: in steps, 1/2 for independent
  // ones.
  double TauIntChi2(const Estimate& chi_2) const;

 private:
  double Weight(double log_w);
  void Rescale(double log_w_reference);
  void Carry();
  // What is open becomes a block, however short.
  void Close();
  void MergePairs();

  int64_t l0_;
  int64_t l1_;
  bool chain_;
  size_t primaries_;
  size_t blocks_max_;
  double log_w_reference_;
  bool weighted_ = false;  // some weight > 0 has been added
  uint64_t block_size_ = 1;
  std::vector<BlockSum> blocks_;  // closed ones
  // The open block: sums over 2^k positions each, k falling. Those beyond
  // `depth_` are kept for their memory.
  std::vector<BlockSum> open_;
  size_t depth_ = 0;
};

}  // namespace latticed
