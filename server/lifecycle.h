// What becomes of versions: the transitions between the states of flow_store.h,
// and the server's memory of its judgements.
//
//   DISCOVERED -> VERIFYING -> LOADING -> GATING -> LIVE | REJECTED,
//   LIVE -> PREVIOUS -> RETIRED,   any -> QUARANTINED
//
// The watcher reports what it loaded, the gatekeeper what the gate found, an
// operator what to do, the services what they draw. A model that has a live
// version keeps one unless it is quarantined with nothing to go back to.
//
// Thread-safe. Every transition is on disk (in the state directory, if there is
// one) before anybody can see it; a disk that refuses is logged and counted,
// and does not stop the server.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/stats/log_weights.h"
#include "grpcpp/support/status.h"
#include "latticed/v1/model.pb.h"
#include "latticed/v1/state.pb.h"
#include "server/config.h"
#include "server/executor.h"
#include "server/flow_store.h"
#include "server/health.h"
#include "server/metrics.h"
#include "server/mutex.h"
#include "server/served_version.h"

namespace latticed {

// Hears that a model has a live version, or none any more. Called under the
// lifecycle's lock: it must not call back.
using OnServing = std::function<void(const std::string& model, bool serving)>;

class Lifecycle : public std::enable_shared_from_this<Lifecycle> {
 public:
  // Reads the state file. Its errors are those of ReadServerState.
  static absl::StatusOr<std::shared_ptr<Lifecycle>> Create(
      const Config& config, std::shared_ptr<FlowStore> store,
      std::shared_ptr<Metrics> metrics, std::shared_ptr<Executor> executor,
      OnServing on_serving);

  // The judgement that stands: a quarantine always, the gate's if it is of this
  // build and device kind.
  std::optional<v1::Judgement> Standing(const std::string& model,
                                        const std::string& digest) const;
  // The latest ones, newest first, whether or not they still stand.
  std::vector<v1::Judgement> Judgements(const std::string& model,
                                        size_t max) const;
  // Digest that was live when the server last ran, or "".
  std::string LastLive(const std::string& model) const;

  // Goes live as soon as it is loaded: the gate accepted it before, or the
  // model has nothing else to serve. `gate`: the report that stands, or null.
  void GoLive(const VersionRef& version, const v1::GateReport* gate);
  // Loaded, and waiting for the gate.
  void Gate(const VersionRef& version);
  // The gate's verdict on a candidate, which goes live or is rejected, or on a
  // version that went live unjudged, which stays or is quarantined.
  void Judged(const VersionRef& version, const v1::GateReport& report);
  // Does not even load. `reason` is a metric label.
  void Reject(VersionRecord record, const std::string& label,
              const std::string& why);

  // Operators. A status names what is wrong with the request.
  grpc::Status Promote(const VersionRef& version);
  grpc::Status Rollback(const std::string& model, const std::string& reason);
  grpc::Status Quarantine(const std::string& model, const std::string& digest,
                          const std::string& reason);
  grpc::Status Unquarantine(const std::string& model,
                            const std::string& digest);

  // Draws of a version, as they are delivered: bad ones take the version back.
  void Observe(const std::string& model, int64_t version,
               const WeightSums& sums);

  // Writes what an earlier write could not: the watcher asks at every poll, so
  // that judgements made while the disk was full outlive the process.
  void SaveIfFailed();

 private:
  Lifecycle(const Config& config, std::shared_ptr<FlowStore> store,
            std::shared_ptr<Metrics> metrics,
            std::shared_ptr<Executor> executor, OnServing on_serving);

  void GoLiveLocked(const VersionRef& version, const v1::GateReport* gate)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the live version back; false if there is nothing to go back to.
  bool FallBackLocked(const std::string& model, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void QuarantineLocked(const std::string& model, int64_t version,
                        const std::string& digest, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RememberLocked(const std::string& model, int64_t version,
                      const std::string& digest, v1::VersionState state,
                      const std::string& reason, const v1::GateReport* gate)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SaveLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const v1::Judgement* FindLocked(const std::string& model,
                                  const std::string& digest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Begins to watch a live version's draws, from none.
  void Watch(const ServedVersion& version, double gate_ess)
      ABSL_LOCKS_EXCLUDED(health_mutex_);
  void TakeBack(const std::string& model, int64_t version,
                const std::string& reason);

  const Config config_;
  const std::shared_ptr<FlowStore> store_;
  const std::shared_ptr<Metrics> metrics_;
  const std::shared_ptr<Executor> executor_;
  const OnServing on_serving_;

  mutable Mutex mutex_;
  v1::ServerState state_ ABSL_GUARDED_BY(mutex_);
  bool save_failed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::chrono::steady_clock::time_point> taken_back_
      ABSL_GUARDED_BY(mutex_);  // when, automatically, by model

  // Of live versions.
  struct Watched {
    int64_t version = 0;
    VersionHealth health;
    bool reported = false;
  };
  Mutex health_mutex_;  // after mutex_, never around it
  std::map<std::string, Watched> watched_ ABSL_GUARDED_BY(health_mutex_);
};

}  // namespace latticed
