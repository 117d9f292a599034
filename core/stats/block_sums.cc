#include "core/stats/block_sums.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <utility>

#include "core/stats/jackknife.h"
#include "core/stats/primaries.h"
#include "core/stats/series.h"

namespace latticed {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kReferenceDistance = 200;

bool Usable(double log_w) { return !std::isnan(log_w) && log_w != kInfinity; }

void AddTo(const BlockSum& other, BlockSum* block) {
  block->positions += other.positions;
  block->non_finite += other.non_finite;
  block->sum_w += other.sum_w;
  block->sum_w2 += other.sum_w2;
  block->measured += other.measured;
  for (size_t p = 0; p < block->sums.size(); ++p) {
    block->sums[p] += other.sums[p];
  }
}

double Draws(const BlockSum& block) {
  return static_cast<double>(block.positions - block.non_finite);
}

// f of the totals, its error from f of the totals less one block each.
Estimate Jackknife(const std::vector<BlockSum>& blocks, const BlockSum& total,
                   const std::function<double(const BlockSum&)>& f) {
  std::vector<double> thetas;
  for (const BlockSum& block : blocks) {
    BlockSum rest;
    rest.positions = total.positions - block.positions;
    rest.non_finite = total.non_finite - block.non_finite;
    rest.sum_w = total.sum_w - block.sum_w;
    rest.sum_w2 = total.sum_w2 - block.sum_w2;
    thetas.push_back(f(rest));
  }
  return {f(total), JackknifeError(thetas)};
}

}  // namespace

BlockSums::BlockSums(int64_t l0, int64_t l1, bool chain, double log_w_reference)
    : l0_(l0),
      l1_(l1),
      chain_(chain),
      primaries_(static_cast<size_t>(PrimaryCount(l1))),
      blocks_max_(chain ? kChainBlocksMax : kDrawBlocksMax),
      log_w_reference_(log_w_reference) {}

// Equal neighbours of the open block are merged; a full one is closed.
void BlockSums::Carry() {
  while (depth_ > 1 &&
         open_[depth_ - 1].positions == open_[depth_ - 2].positions) {
    AddTo(open_[depth_ - 1], &open_[depth_ - 2]);
    --depth_;
  }
  if (open_[0].positions == block_size_) {
    Close();
    if (blocks_.size() == blocks_max_) MergePairs();
  }
}

void BlockSums::Close() {
  if (depth_ == 0) return;
  for (size_t i = 1; i < depth_; ++i) AddTo(open_[i], &open_[0]);
  blocks_.push_back(open_[0]);
  depth_ = 0;
}

void BlockSums::MergePairs() {
  const size_t size = blocks_.size();
  for (size_t i = 0; i < size; i += 2) {
    if (i > 0) blocks_[i / 2] = std::move(blocks_[i]);
    if (i + 1 < size) AddTo(blocks_[i + 1], &blocks_[i / 2]);
  }
  blocks_.resize((size + 1) / 2);
  block_size_ *= 2;
}

void BlockSums::Rescale(double log_w_reference) {
  const double scale = std::exp(log_w_reference_ - log_w_reference);
  const bool changes = weighted_ && log_w_reference != log_w_reference_;
  log_w_reference_ = log_w_reference;
  if (!changes) return;
  for (std::vector<BlockSum>* blocks : {&blocks_, &open_}) {
    for (BlockSum& block : *blocks) {
      block.sum_w *= scale;
      block.sum_w2 *= scale * scale;
      if (chain_) continue;  // configurations of a chain have weight one
      block.measured *= scale;
      for (double& sum : block.sums) sum *= scale;
    }
  }
}

double BlockSums::Weight(double log_w) {
  if (log_w == -kInfinity) return 0;
  if (log_w > log_w_reference_ + kReferenceDistance ||
      (!weighted_ && !(log_w > log_w_reference_ - kReferenceDistance))) {
    Rescale(log_w);
  }
  weighted_ = true;
  return std::exp(log_w - log_w_reference_);
}

void BlockSums::Add(double log_w, const Measurement* measurement) {
  const bool usable = Usable(log_w);
  const double w = usable ? Weight(log_w) : 0;
  if (depth_ == open_.size()) open_.emplace_back();
  BlockSum& leaf = open_[depth_++];
  leaf.positions = 1;
  leaf.non_finite = usable ? 0 : 1;
  leaf.sum_w = w;
  leaf.sum_w2 = w * w;
  leaf.measured = measurement == nullptr ? 0 : chain_ ? 1 : w;
  leaf.sums.assign(primaries_, 0.0);
  if (measurement != nullptr && leaf.measured > 0) {
    for (size_t p = 0; p < primaries_; ++p) {
      leaf.sums[p] =
          leaf.measured * PrimaryOf(*measurement, static_cast<int64_t>(p));
    }
  }
  Carry();
}

void BlockSums::Append(BlockSums other) {
  if (other.weighted_ &&
      (!weighted_ || other.log_w_reference_ > log_w_reference_)) {
    Rescale(other.log_w_reference_);
  }
  other.Rescale(log_w_reference_);
  weighted_ = weighted_ || other.weighted_;
  Close();
  other.Close();
  while (other.block_size_ < block_size_) other.MergePairs();
  while (block_size_ < other.block_size_) MergePairs();
  blocks_.insert(blocks_.end(), std::make_move_iterator(other.blocks_.begin()),
                 std::make_move_iterator(other.blocks_.end()));
  Coarsen(blocks_max_ - 1);  // as Carry does
}

void BlockSums::Coarsen(size_t blocks) {
  Close();
  while (blocks_.size() > blocks) MergePairs();
}

bool BlockSums::Restore(uint64_t block_size, std::vector<BlockSum> blocks) {
  // A power of two, so that block sizes of shards can be made equal.
  if (block_size == 0 || (block_size & (block_size - 1)) != 0 ||
      blocks.size() > blocks_max_) {
    return false;
  }
  for (const BlockSum& block : blocks) {
    if (block.positions == 0 || block.positions > block_size ||
        block.non_finite > block.positions || block.sums.size() != primaries_) {
      return false;
    }
    for (const double sum : {block.sum_w, block.sum_w2, block.measured}) {
      if (!std::isfinite(sum) || sum < 0) return false;
    }
    for (const double sum : block.sums) {
      if (!std::isfinite(sum)) return false;
    }
    weighted_ = weighted_ || block.sum_w > 0;
  }
  block_size_ = block_size;
  blocks_ = std::move(blocks);
  return true;
}

BlockSum BlockSums::Total() const {
  BlockSum total;
  total.sums.assign(primaries_, 0.0);
  for (const BlockSum& block : blocks()) AddTo(block, &total);
  return total;
}

std::vector<BlockSum> BlockSums::blocks() const {
  std::vector<BlockSum> blocks = blocks_;
  if (depth_ == 0) return blocks;
  blocks.push_back(open_[0]);
  for (size_t i = 1; i < depth_; ++i) AddTo(open_[i], &blocks.back());
  return blocks;
}

Estimate BlockSums::LogZ() const {
  const BlockSum total = Total();
  if (!(total.sum_w > 0)) return {-kInfinity, kInfinity};
  return Jackknife(blocks(), total, [this](const BlockSum& sum) {
    return log_w_reference_ + std::log(sum.sum_w / Draws(sum));
  });
}

Estimate BlockSums::Ess() const {
  const BlockSum total = Total();
  if (!(total.sum_w > 0)) return {0, kInfinity};
  return Jackknife(blocks(), total, [](const BlockSum& sum) {
    return sum.sum_w2 > 0 ? sum.sum_w * sum.sum_w / (Draws(sum) * sum.sum_w2)
                          : 0;
  });
}

std::map<std::string, Estimate> BlockSums::JackknifeObservables() const {
  const BlockSum total = Total();
  if (!(total.measured > 0)) return {};
  std::vector<double> mean(primaries_);
  for (size_t p = 0; p < primaries_; ++p) {
    mean[p] = total.sums[p] / total.measured;
  }
  const std::vector<double> values = ObservablesAt(mean, l0_, l1_);
  std::vector<std::vector<double>> leave_one_out;  // [block][observable]
  for (const BlockSum& block : blocks()) {
    // Without it the mean would not change.
    if (block.measured == 0) continue;
    for (size_t p = 0; p < primaries_; ++p) {
      mean[p] =
          (total.sums[p] - block.sums[p]) / (total.measured - block.measured);
    }
    leave_one_out.push_back(ObservablesAt(mean, l0_, l1_));
  }
  std::vector<Estimate> estimates;
  std::vector<double> thetas(leave_one_out.size());
  for (size_t k = 0; k < values.size(); ++k) {
    for (size_t b = 0; b < thetas.size(); ++b) thetas[b] = leave_one_out[b][k];
    estimates.push_back({values[k], JackknifeError(thetas)});
  }
  return NamedEstimates(l1_, estimates);
}

std::map<std::string, Estimate> BlockSums::GammaObservables() const {
  const BlockSum total = Total();
  if (!(total.measured > 0)) return {};
  // A partial block would count as much as a whole one.
  std::vector<const BlockSum*> whole;
  for (const BlockSum& block : blocks_) {
    if (block.measured > 0) whole.push_back(&block);
  }
  std::vector<Estimate> estimates = EstimateSeries(
      static_cast<int64_t>(whole.size()), l0_, l1_, [&](int64_t i, int64_t p) {
        const BlockSum& block = *whole[static_cast<size_t>(i)];
        return block.sums[static_cast<size_t>(p)] / block.measured;
      });
  std::vector<double> mean(primaries_);
  for (size_t p = 0; p < primaries_; ++p) {
    mean[p] = total.sums[p] / total.measured;
  }
  const std::vector<double> values = ObservablesAt(mean, l0_, l1_);
  for (size_t k = 0; k < values.size(); ++k) estimates[k].value = values[k];
  return NamedEstimates(l1_, estimates);
}

double BlockSums::TauIntChi2(const Estimate& chi_2) const {
  const BlockSum total = Total();
  if (!(total.measured > 0)) return 0.5;
  const double volume = static_cast<double>(l0_ * l1_);
  const double m2 = total.sums[kM2] / total.measured;
  const double m4 = total.sums[kM4] / total.measured;
  const double variance = volume * volume * (m4 - m2 * m2);
  if (!(variance > 0)) return 0.5;
  return chi_2.error * chi_2.error * total.measured / (2 * variance);
}

}  // namespace latticed
