#include "server/recent_draws.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace latticed {
namespace {

constexpr int kShareOfTime = 100;  // one part in so many
constexpr size_t kModelsMax = 64;

// The same draw has the same key; another one does not but with probability
// 2^-64 or so.
uint64_t KeyOf(const StreamId& stream, uint64_t index) {
  uint64_t key = index * 0x9e3779b97f4a7c15u;
  for (const uint64_t word : {stream.low, uint64_t{stream.high}}) {
    key = (key ^ (key >> 29) ^ word) * 0xbf58476d1ce4e5b9u;
  }
  return key ^ (key >> 32);
}

}  // namespace

RecentDraws::Batch RecentDraws::Begin(const ServedVersion& version,
                                      Clock::time_point now) const {
  const size_t bytes = 4 * static_cast<size_t>(version.lattice.Sites());
  Batch batch;
  batch.model = version.model;
  batch.digest = version.digest;
  batch.lattice = version.lattice;
  batch.log_weight_reference = version.manifest.log_weight_reference();
  batch.draws_max = std::clamp<size_t>(kBatchBytes / bytes, 1, kBatchDraws);
  batch.since = now;
  return batch;
}

bool RecentDraws::Take(const Tile& tile, const DrawSpans& draws) {
  const ServedVersion& version = *tile.version;
  const size_t sites = static_cast<size_t>(version.lattice.Sites());
  MutexLock lock(taking_);
  auto it = waiting_.find(version.model);
  size_t at = 0;
  for (const TilePiece& piece : tile.pieces) {
    const size_t count = static_cast<size_t>(piece.count);
    const size_t first = std::exchange(at, at + count);
    if (!piece.of_client) continue;
    if (it == waiting_.end()) {
      const Clock::time_point now = Clock::now();
      if (now < again_ || waiting_.size() >= kWaitingMax) return false;
      it = waiting_.emplace(version.model, Begin(version, now)).first;
    }
    Batch& batch = it->second;
    // Somebody draws from another version as well; the first one has it.
    if (batch.digest != version.digest) return false;
    const size_t take = std::min(count, batch.draws_max - batch.keys.size());
    for (size_t i = first; i < first + take; ++i) {
      batch.keys.push_back(KeyOf(
          piece.stream, piece.block->first_index +
                            static_cast<uint64_t>(piece.offset) + i - first));
      batch.action.push_back(draws.action[i]);
      batch.log_w.push_back(-draws.action[i] - draws.log_q[i]);
    }
    const auto phi = draws.phi.subspan(first * sites, take * sites);
    batch.phi.insert(batch.phi.end(), phi.begin(), phi.end());
  }
  return true;
}

void RecentDraws::Measure(Clock::time_point now) {
  std::vector<Batch> due;
  {
    MutexLock lock(taking_);
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const Batch& batch = it->second;
      if (batch.keys.size() < batch.draws_max &&
          now < batch.since + std::chrono::seconds(1)) {
        ++it;
        continue;
      }
      due.push_back(std::move(it->second));
      it = waiting_.erase(it);
    }
    // None begins while these are measured: it would escape the share.
    if (!due.empty()) again_ = Clock::time_point::max();
  }
  if (due.empty()) return;
  const Clock::time_point start = Clock::now();
  for (const Batch& batch : due) {
    const VersionRef live = store_->Live(batch.model);
    if (live != nullptr && live->digest == batch.digest) MeasureBatch(batch);
  }
  const Clock::time_point end = Clock::now();
  MutexLock lock(taking_);
  again_ = end + (kShareOfTime - 1) * (end - start);
}

std::vector<size_t> RecentDraws::New(const Batch& batch) {
  std::vector<std::pair<uint64_t, size_t>> draws;
  for (size_t i = 0; i < batch.keys.size(); ++i) {
    draws.emplace_back(batch.keys[i], i);
  }
  std::sort(draws.begin(), draws.end());
  std::vector<size_t> fresh;
  MutexLock lock(mutex_);
  if (models_.size() >= kModelsMax && models_.count(batch.model) == 0) {
    return fresh;
  }
  Model& model = models_[batch.model];
  if (model.digest != batch.digest) model = {batch.digest, {}};
  for (size_t k = 0; k < draws.size(); ++k) {
    const uint64_t key = draws[k].first;
    bool known = k > 0 && draws[k - 1].first == key;
    for (const Measured& measured : model.batches) {
      known = known || std::binary_search(measured.keys.begin(),
                                          measured.keys.end(), key);
    }
    if (!known) fresh.push_back(draws[k].second);
  }
  return fresh;
}

void RecentDraws::MeasureBatch(const Batch& batch) {
  const Lattice& lattice = batch.lattice;
  const size_t sites = static_cast<size_t>(lattice.Sites());
  Measured measured{batch.since, {}, ObservableSums(lattice.l0, lattice.l1)};
  for (const size_t i : New(batch)) {
    const double exponent = batch.log_w[i] - batch.log_weight_reference;
    // What is not finite is counted elsewhere; a weight like the other one is
    // the gate's and the rollback's affair.
    if (!std::isfinite(exponent) || exponent > 500) continue;
    measured.keys.push_back(batch.keys[i]);
    measured.sums.Add(
        latticed::Measure(
            absl::MakeConstSpan(batch.phi).subspan(i * sites, sites),
            lattice.l0, lattice.l1, batch.action[i]),
        std::exp(exponent));
  }
  if (measured.keys.empty() || !(measured.sums.weight() > 0)) return;
  MutexLock lock(mutex_);
  std::deque<Measured>& batches = models_[batch.model].batches;
  batches.push_back(std::move(measured));
  if (batches.size() > kBatches) batches.pop_front();
}

std::optional<RecentDraws::Summary> RecentDraws::Of(
    const ServedVersion& version, Clock::time_point now) const {
  const auto age = [now](Clock::time_point then) {
    return std::chrono::duration<double>(now - then).count();
  };
  Summary summary;
  std::vector<ObservableSums> blocks;
  {
    MutexLock lock(mutex_);
    const auto it = models_.find(version.model);
    if (it == models_.end() || it->second.digest != version.digest ||
        it->second.batches.empty()) {
      return std::nullopt;
    }
    const std::deque<Measured>& batches = it->second.batches;
    for (const Measured& measured : batches) {
      summary.draws += measured.keys.size();
      blocks.push_back(measured.sums);
    }
    summary.oldest_age_seconds = age(batches.front().since);
    summary.newest_age_seconds = age(batches.back().since);
  }
  summary.blocks = blocks.size();
  if (blocks.size() >= kBatchesMin)
    summary.observables = EstimateBlocks(blocks);
  return summary;
}

}  // namespace latticed
