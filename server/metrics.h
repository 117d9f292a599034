// Every metric of the server, by Prometheus' conventions: seconds, bytes,
// `_total`, labels from closed sets, series created at zero. Names and help are
// declared in metrics_families.cc.
//
// Effective sample size is exported as sums of weights relative to the
// version's `log_weight_reference`, so that (sum w)^2 / (n sum w^2) is right
// over any window and any number of replicas; acceptance as proposals and
// accepted ones.
//
// At most three versions of a model have series; what is reported for another
// one is dropped. A value that is not finite never reaches a metric: one would
// poison it for the life of the process. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/stats/log_weights.h"
#include "grpcpp/support/status.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "server/mutex.h"

namespace latticed {

// "SamplerService", "Sample"
struct RpcName {
  const char* service;
  const char* method;
  bool operator<(const RpcName& other) const {
    return std::string(service) + "/" + method <
           std::string(other.service) + "/" + other.method;
  }
};

// A model's counters, for the status page.
struct ModelFigures {
  int64_t live = 0;  // version, 0: none
  double draws = 0;  // delivered
  double queued = 0;
  double queue_capacity = 0;
  // Of the live version's weights, relative to its reference.
  double samples = 0;
  double sum_w = 0;
  double sum_w2 = 0;
  double proposals = 0;  // of chains
  double accepted = 0;
};

// Those of the whole server.
struct ServerFigures {
  std::map<std::string, uint32_t> calls;     // open, by "Service/Method"
  std::map<std::string, uint64_t> rejected;  // by reason
  double device_busy_seconds = 0;
};

// What the program runs on, as its main knows it.
struct RuntimeInfo {
  std::string torch;  // version of LibTorch
  std::string cuda;   // and of its CUDA, empty without
  // Bytes by kind: "allocated", "reserved", "free", "total"; empty if they are
  // not known. Null: the device has no memory of its own. Called at every
  // scrape, on any thread.
  std::function<std::map<std::string, double>()> device_memory;
};

class Metrics {
 public:
  explicit Metrics(RuntimeInfo runtime = {});

  // RPCs.
  void RpcStarted(const RpcName& rpc);
  void RpcEnded(const RpcName& rpc, grpc::StatusCode code, double seconds);
  // Streams only.
  void FirstMessage(const RpcName& rpc, double seconds);
  void Sent(const RpcName& rpc, int64_t bytes, double wait_seconds);
  void Rejected(absl::string_view reason);
  void StreamEnded(absl::string_view reason);
  // missing, malformed, unknown, expired, role, rate_limited
  void AuthFailed(absl::string_view reason);
  // A file that changed, "certificate" or "tokens", was taken or refused.
  void CredentialReload(absl::string_view file, bool ok);
  void CertificateExpires(double unix_seconds);

  // Models and versions.
  void AddModel(const std::string& model);
  // `published`: seconds since the epoch, 0 if unknown.
  void AddVersion(const std::string& model, int64_t version,
                  const std::string& digest, const std::string& numerics_mode,
                  double log_weight_reference, double published_ess,
                  double published_acceptance, double published = 0);
  // slot: "live" or "previous"; "" removes the version's series.
  void SetSlot(const std::string& model, int64_t version,
               const std::string& slot);
  // What the gate measured; a version without it has no such series.
  void Gated(const std::string& model, int64_t version, double ess,
             double acceptance);
  // (live, ""), (rejected, damaged | unusable | non_finite | gate),
  // (failed, unreadable), (rolled_back, "")
  void ModelLoaded(const std::string& model, absl::string_view result,
                   absl::string_view reason);
  void LoadPhase(const std::string& model, absl::string_view phase,
                 double seconds);
  void RepositoryRead();
  // kind: "repository", "version", "reference" or "state"
  void RepositoryError(absl::string_view kind);
  void QueueCapacity(const std::string& model, int64_t configurations);

  // The device.
  void DeviceBusy(double seconds);
  void DeviceOutOfMemory();
  void DeviceError();

  // Draws.
  void Queued(const std::string& model, int64_t delta);
  // From when a block could be drawn until its first tile.
  void QueueWait(const std::string& model, double seconds);
  // log w of what was drawn, less the version's reference.
  void LogWeights(const std::string& model, double reference,
                  absl::Span<const double> log_q,
                  absl::Span<const double> action);
  void TileDrawn(const std::string& model, int64_t draws, int64_t tile,
                 double seconds);
  void Delivered(const std::string& model, int64_t draws);
  void Discarded(const std::string& model, int64_t draws);
  void Weights(const std::string& model, int64_t version,
               const WeightSums& sums);
  // Hears of what Weights is given. Set before the first call.
  using WeightsListener = std::function<void(
      const std::string& model, int64_t version, const WeightSums& sums)>;
  void OnWeights(WeightsListener listener) {
    weights_listener_ = std::move(listener);
  }
  // kind: "log_q" or "action"
  void NonFinite(const std::string& model, absl::string_view kind,
                 int64_t count);
  void Chain(const std::string& model, int64_t proposals, int64_t accepted);
  void RejectionRuns(const std::string& model,
                     const std::vector<uint64_t>& lengths);

  // A comparison of draws with another replica, and one that could not be made.
  void ReplicaAudited(const std::string& model, bool same);
  void ReplicaAuditFailed() { replica_audit_failures_->Increment(); }

  ModelFigures Figures(const std::string& model) const;
  std::map<std::string, ModelFigures> AllFigures() const;
  ServerFigures Totals() const;
  // The whole exposition, text format 0.0.4.
  std::string Text() const;

 private:
  template <typename T>
  using Family = prometheus::Family<T>;
  using Counter = prometheus::Counter;
  using Gauge = prometheus::Gauge;
  using Histogram = prometheus::Histogram;

  struct RpcSeries {
    Counter* started;
    std::map<std::string, Counter*> completed;
    Gauge* in_flight;
    Histogram* duration = nullptr;       // unary
    Histogram* first_message = nullptr;  // streams, and the next two
    Counter* sent_bytes = nullptr;
    Counter* sent_messages = nullptr;
  };
  struct ModelSeries {
    Gauge* queue;
    Gauge* queue_capacity;
    Histogram* queue_wait;
    Histogram* log_weight;
    Histogram* rejection_run;
    Histogram* tile_seconds;
    Histogram* tile_fill;
    Counter* generated;
    Counter* delivered;
    Counter* discarded;
    Counter* proposals;
    Counter* accepted;
    Counter* replica_audits;
    Counter* replica_mismatches;
    std::map<std::string, Counter*> non_finite;
    int64_t live = 0;
  };
  struct VersionSeries {
    std::string digest;
    std::string numerics_mode;
    double log_weight_reference = 0;
    double published = 0;
    Gauge* info = nullptr;
    Gauge* published_ess = nullptr;
    Gauge* published_acceptance = nullptr;
    Gauge* gate_ess = nullptr;
    Gauge* gate_acceptance = nullptr;
    Counter* samples = nullptr;
    Counter* sum = nullptr;
    Counter* square_sum = nullptr;
  };
  using VersionKey = std::pair<std::string, int64_t>;

  void CreateFamilies();
  void CreateRpcSeries(const RpcName& rpc, bool streaming);
  ModelFigures FiguresLocked(const std::string& model,
                             const ModelSeries& series) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ModelSeries* Model(const std::string& model)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveVersion(const VersionKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The one way into a histogram or a counter.
  void Observe(Histogram* histogram, double value);
  void Add(Counter* counter, double value);

  prometheus::Registry registry_;
  Family<Counter>* rpc_started_;
  Family<Counter>* rpc_completed_;
  Family<Gauge>* rpc_in_flight_;
  Family<Histogram>* rpc_duration_;
  Family<Histogram>* rpc_first_message_;
  Family<Counter>* rpc_sent_bytes_;
  Family<Counter>* rpc_sent_messages_;
  Family<Counter>* rpc_rejected_;
  Family<Counter>* streams_terminated_;
  Family<Counter>* auth_failures_;
  Family<Counter>* credential_reloads_;
  Family<Gauge>* certificate_expiry_;
  Family<Histogram>* write_wait_;
  Family<Gauge>* queue_;
  Family<Gauge>* queue_capacity_;
  Family<Histogram>* queue_wait_;
  Family<Histogram>* log_weight_;
  Family<Histogram>* rejection_run_;
  Family<Histogram>* tile_seconds_;
  Family<Histogram>* tile_fill_;
  Family<Counter>* generated_;
  Family<Counter>* delivered_;
  Family<Counter>* discarded_;
  Family<Counter>* proposals_;
  Family<Counter>* accepted_;
  Family<Counter>* replica_audits_;
  Family<Counter>* replica_mismatches_;
  Family<Counter>* non_finite_;
  Family<Gauge>* model_info_;
  Family<Gauge>* published_timestamp_;
  Family<Gauge>* live_timestamp_;
  Family<Gauge>* published_ess_;
  Family<Gauge>* published_acceptance_;
  Family<Gauge>* gate_ess_;
  Family<Gauge>* gate_acceptance_;
  Family<Counter>* weight_samples_;
  Family<Counter>* weight_sum_;
  Family<Counter>* weight_square_sum_;
  Family<Counter>* model_loads_;
  Family<Histogram>* load_seconds_;
  Gauge* repository_success_;
  std::map<std::string, Counter*> repository_errors_;
  Counter* dropped_observations_;
  Counter* replica_audit_failures_;
  Counter* device_busy_;
  Counter* device_oom_;
  Counter* device_errors_;
  Histogram* write_wait_all_;

  const RuntimeInfo runtime_;
  Family<Gauge>* device_memory_ = nullptr;
  WeightsListener weights_listener_;
  // Constant after construction.
  std::map<RpcName, RpcSeries> rpcs_;
  std::map<std::string, Counter*> rejections_;
  std::map<std::string, Counter*> terminations_;
  std::map<std::string, Counter*> auth_reasons_;

  mutable Mutex mutex_;
  std::map<std::string, ModelSeries> models_ ABSL_GUARDED_BY(mutex_);
  std::map<VersionKey, VersionSeries> versions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
