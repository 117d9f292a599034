// Observables of what clients were drawn lately, for the status page: a sample
// of the draws is measured, at most 1 % of a core is spent on that.
//
// The worker copies draws into a batch for each model; another thread measures
// the batches. The last 64 batches of the live version are kept as sums,
// weighted with w = exp(log w - log_weight_reference): one jackknife block
// each. A draw that is in there already, since a client asked for it again, is
// not counted twice. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/sampling/tile_sampler.h"
#include "core/stats/observable_sums.h"
#include "server/flow_store.h"
#include "server/mutex.h"
#include "server/scheduler.h"

namespace latticed {

class RecentDraws {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kBatchDraws = 256;
  static constexpr size_t kBatches = 64;
  // With fewer blocks a jackknife error means little.
  static constexpr size_t kBatchesMin = 8;

  explicit RecentDraws(std::shared_ptr<const FlowStore> store)
      : store_(std::move(store)) {}

  // For the worker: a tile and all its draws, in order of the pieces. False
  // if there were draws of clients, but it rests from measuring others.
  bool Take(const Tile& tile, const DrawSpans& draws);
  // For a thread with time, about once a second: measures what was taken, a
  // second after its first draw or when it is a full batch.
  void Measure(Clock::time_point now);

  struct Summary {
    uint64_t draws = 0;
    size_t blocks = 0;
    double oldest_age_seconds = 0;
    double newest_age_seconds = 0;
    // As in core/stats/observables.h; empty below kBatchesMin blocks.
    std::map<std::string, Estimate> observables;
  };
  // Nothing while no draw of this version has been measured.
  std::optional<Summary> Of(const ServedVersion& version,
                            Clock::time_point now) const;

 private:
  // Taken and not measured yet. Holds no version: those that retire go at once.
  struct Batch {
    std::string model;
    std::string digest;
    Lattice lattice;
    double log_weight_reference = 0;
    size_t draws_max = 0;
    Clock::time_point since;
    std::vector<uint64_t> keys;  // which draws they are
    std::vector<float> phi;
    std::vector<double> log_w;
    std::vector<double> action;
  };
  struct Measured {
    Clock::time_point since;
    std::vector<uint64_t> keys;  // sorted
    ObservableSums sums;
  };
  struct Model {
    std::string digest;
    std::deque<Measured> batches;
  };

  // Memory of batches that wait: 8 of at most 1 MiB or one draw.
  static constexpr size_t kWaitingMax = 8;
  static constexpr size_t kBatchBytes = size_t{1} << 20;
  Batch Begin(const ServedVersion& version, Clock::time_point now) const;
  void MeasureBatch(const Batch& batch);
  // Places in the batch of draws that are not among the measured ones.
  std::vector<size_t> New(const Batch& batch) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::shared_ptr<const FlowStore> store_;

  Mutex taking_;
  std::map<std::string, Batch> waiting_ ABSL_GUARDED_BY(taking_);
  Clock::time_point again_ ABSL_GUARDED_BY(taking_);  // nothing before

  mutable Mutex mutex_;
  std::map<std::string, Model> models_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
