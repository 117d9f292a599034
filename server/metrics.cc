#include "server/metrics.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "prometheus/text_serializer.h"
#include "server/errors.h"
#include "server/process_metrics.h"

namespace latticed {
namespace {

constexpr std::pair<const char*, const char*> kLoadResults[] = {
    {"live", ""},
    {"rejected", "damaged"},
    {"rejected", "unusable"},
    {"rejected", "non_finite"},
    {"rejected", "gate"},
    {"failed", "unreadable"},
    {"rolled_back", ""}};

}  // namespace

void Metrics::Observe(Histogram* histogram, double value) {
  if (std::isfinite(value)) {
    histogram->Observe(value);
  } else {
    dropped_observations_->Increment();
  }
}

void Metrics::Add(Counter* counter, double value) {
  if (std::isfinite(value) && value >= 0) {
    counter->Increment(value);
  } else {
    dropped_observations_->Increment();
  }
}

void Metrics::RpcStarted(const RpcName& rpc) {
  const RpcSeries& series = rpcs_.at(rpc);
  series.started->Increment();
  series.in_flight->Increment();
}

void Metrics::RpcEnded(const RpcName& rpc, grpc::StatusCode code,
                       double seconds) {
  const RpcSeries& series = rpcs_.at(rpc);
  series.in_flight->Decrement();
  series.completed.at(std::string(CodeName(code)))->Increment();
  if (series.duration != nullptr) Observe(series.duration, seconds);
}

void Metrics::FirstMessage(const RpcName& rpc, double seconds) {
  Observe(rpcs_.at(rpc).first_message, seconds);
}

void Metrics::Sent(const RpcName& rpc, int64_t bytes, double wait_seconds) {
  const RpcSeries& series = rpcs_.at(rpc);
  Add(series.sent_bytes, static_cast<double>(bytes));
  series.sent_messages->Increment();
  Observe(write_wait_all_, wait_seconds);
}

void Metrics::Rejected(absl::string_view reason) {
  rejections_.at(std::string(reason))->Increment();
}

void Metrics::StreamEnded(absl::string_view reason) {
  terminations_.at(std::string(reason))->Increment();
}

void Metrics::AuthFailed(absl::string_view reason) {
  auth_reasons_.at(std::string(reason))->Increment();
}

void Metrics::CredentialReload(absl::string_view file, bool ok) {
  credential_reloads_
      ->Add({{"file", std::string(file)}, {"result", ok ? "ok" : "refused"}})
      .Increment();
}

void Metrics::CertificateExpires(double unix_seconds) {
  certificate_expiry_->Add({}).Set(unix_seconds);
}

void Metrics::AddModel(const std::string& model) {
  MutexLock lock(mutex_);
  if (models_.count(model) > 0) return;
  const prometheus::Labels labels = {{"model", model}};
  ModelSeries series;
  series.queue = &queue_->Add(labels);
  series.queue_capacity = &queue_capacity_->Add(labels);
  series.queue_wait = &queue_wait_->Add(
      labels,
      Histogram::BucketBoundaries{1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10});
  series.log_weight = &log_weight_->Add(
      labels, Histogram::BucketBoundaries{-10, -5, -3, -2, -1, -0.5, -0.2, 0,
                                          0.2, 0.5, 1, 2, 3, 5, 10});
  series.rejection_run = &rejection_run_->Add(
      labels, Histogram::BucketBoundaries{1, 2, 4, 8, 16, 32, 64, 128, 256, 512,
                                          1024, 2048, 4096});
  series.tile_seconds = &tile_seconds_->Add(
      labels, Histogram::BucketBoundaries{1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03,
                                          0.1, 0.3, 1, 3, 10});
  series.tile_fill = &tile_fill_->Add(
      labels, Histogram::BucketBoundaries{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7,
                                          0.8, 0.9, 1});
  series.generated = &generated_->Add(labels);
  series.delivered = &delivered_->Add(labels);
  series.discarded = &discarded_->Add(labels);
  series.proposals = &proposals_->Add(labels);
  series.accepted = &accepted_->Add(labels);
  series.replica_audits = &replica_audits_->Add(labels);
  series.replica_mismatches = &replica_mismatches_->Add(labels);
  for (const char* kind : {"log_q", "action"}) {
    series.non_finite[kind] =
        &non_finite_->Add({{"model", model}, {"kind", kind}});
  }
  for (const auto& [result, reason] : kLoadResults) {
    model_loads_->Add(
        {{"model", model}, {"result", result}, {"reason", reason}});
  }
  models_[model] = series;
}

void Metrics::AddVersion(const std::string& model, int64_t version,
                         const std::string& digest,
                         const std::string& numerics_mode,
                         double log_weight_reference, double published_ess,
                         double published_acceptance, double published) {
  AddModel(model);
  MutexLock lock(mutex_);
  const VersionKey key(model, version);
  const auto old = versions_.find(key);
  // Its counters go on when it comes back from PREVIOUS.
  if (old != versions_.end() && old->second.digest == digest.substr(0, 12)) {
    return;
  }
  RemoveVersion(key);
  const prometheus::Labels labels = {{"model", model},
                                     {"version", absl::StrCat(version)}};
  VersionSeries series;
  series.digest = digest.substr(0, 12);
  series.numerics_mode = numerics_mode;
  series.log_weight_reference = log_weight_reference;
  series.published = published;
  series.published_ess = &published_ess_->Add(labels);
  if (std::isfinite(published_ess)) series.published_ess->Set(published_ess);
  series.published_acceptance = &published_acceptance_->Add(labels);
  if (std::isfinite(published_acceptance)) {
    series.published_acceptance->Set(published_acceptance);
  }
  series.samples = &weight_samples_->Add(labels);
  series.sum = &weight_sum_->Add(labels);
  series.square_sum = &weight_square_sum_->Add(labels);
  versions_[key] = series;
}

void Metrics::RemoveVersion(const VersionKey& key) {
  const auto it = versions_.find(key);
  if (it == versions_.end()) return;
  VersionSeries& series = it->second;
  if (series.info != nullptr) model_info_->Remove(series.info);
  published_ess_->Remove(series.published_ess);
  published_acceptance_->Remove(series.published_acceptance);
  if (series.gate_ess != nullptr) {
    gate_ess_->Remove(series.gate_ess);
    gate_acceptance_->Remove(series.gate_acceptance);
  }
  weight_samples_->Remove(series.samples);
  weight_sum_->Remove(series.sum);
  weight_square_sum_->Remove(series.square_sum);
  versions_.erase(it);
}

void Metrics::SetSlot(const std::string& model, int64_t version,
                      const std::string& slot) {
  MutexLock lock(mutex_);
  const VersionKey key(model, version);
  if (slot.empty()) return RemoveVersion(key);
  const auto it = versions_.find(key);
  if (it == versions_.end()) return;
  VersionSeries& series = it->second;
  if (series.info != nullptr) model_info_->Remove(series.info);
  series.info = &model_info_->Add({{"model", model},
                                   {"version", absl::StrCat(version)},
                                   {"digest", series.digest},
                                   {"numerics_mode", series.numerics_mode},
                                   {"slot", slot}});
  series.info->Set(1);
  if (slot != "live") return;
  Model(model)->live = version;
  const prometheus::Labels labels = {{"model", model}, {"slot", slot}};
  published_timestamp_->Add(labels).Set(series.published);
  live_timestamp_->Add(labels).SetToCurrentTime();
}

void Metrics::ModelLoaded(const std::string& model, absl::string_view result,
                          absl::string_view reason) {
  AddModel(model);
  model_loads_
      ->Add({{"model", model},
             {"result", std::string(result)},
             {"reason", std::string(reason)}})
      .Increment();
}

void Metrics::LoadPhase(const std::string& model, absl::string_view phase,
                        double seconds) {
  Observe(&load_seconds_->Add({{"model", model}, {"phase", std::string(phase)}},
                              Histogram::BucketBoundaries{0.01, 0.03, 0.1, 0.3,
                                                          1, 3, 10, 30, 100}),
          seconds);
}

void Metrics::RepositoryRead() { repository_success_->SetToCurrentTime(); }
void Metrics::RepositoryError(absl::string_view kind) {
  repository_errors_.at(std::string(kind))->Increment();
}

void Metrics::Gated(const std::string& model, int64_t version, double ess,
                    double acceptance) {
  MutexLock lock(mutex_);
  const auto it = versions_.find({model, version});
  if (it == versions_.end() || !std::isfinite(ess + acceptance)) return;
  VersionSeries& series = it->second;
  const prometheus::Labels labels = {{"model", model},
                                     {"version", absl::StrCat(version)}};
  series.gate_ess = &gate_ess_->Add(labels);
  series.gate_ess->Set(ess);
  series.gate_acceptance = &gate_acceptance_->Add(labels);
  series.gate_acceptance->Set(acceptance);
}

Metrics::ModelSeries* Metrics::Model(const std::string& model) {
  const auto it = models_.find(model);
  return it == models_.end() ? nullptr : &it->second;
}

void Metrics::QueueCapacity(const std::string& model, int64_t configurations) {
  MutexLock lock(mutex_);
  if (ModelSeries* series = Model(model)) {
    series->queue_capacity->Set(static_cast<double>(configurations));
  }
}

void Metrics::Queued(const std::string& model, int64_t delta) {
  MutexLock lock(mutex_);
  if (ModelSeries* series = Model(model)) {
    series->queue->Increment(static_cast<double>(delta));
  }
}

void Metrics::QueueWait(const std::string& model, double seconds) {
  MutexLock lock(mutex_);
  if (ModelSeries* series = Model(model)) Observe(series->queue_wait, seconds);
}

void Metrics::LogWeights(const std::string& model, double reference,
                         absl::Span<const double> log_q,
                         absl::Span<const double> action) {
  Histogram* histogram = nullptr;
  {
    MutexLock lock(mutex_);
    if (ModelSeries* series = Model(model)) histogram = series->log_weight;
  }
  // Series of models are never removed.
  for (size_t i = 0; histogram != nullptr && i < log_q.size(); ++i) {
    Observe(histogram, -action[i] - log_q[i] - reference);
  }
}

void Metrics::DeviceBusy(double seconds) { Add(device_busy_, seconds); }
void Metrics::DeviceOutOfMemory() { device_oom_->Increment(); }
void Metrics::DeviceError() { device_errors_->Increment(); }

void Metrics::TileDrawn(const std::string& model, int64_t draws, int64_t tile,
                        double seconds) {
  MutexLock lock(mutex_);
  ModelSeries* series = Model(model);
  if (series == nullptr) return;
  Observe(series->tile_seconds, seconds);
  Observe(series->tile_fill,
          static_cast<double>(draws) / static_cast<double>(tile));
  Add(series->generated, static_cast<double>(draws));
}

void Metrics::Delivered(const std::string& model, int64_t draws) {
  MutexLock lock(mutex_);
  if (ModelSeries* series = Model(model)) {
    Add(series->delivered, static_cast<double>(draws));
  }
}

void Metrics::Discarded(const std::string& model, int64_t draws) {
  MutexLock lock(mutex_);
  if (ModelSeries* series = Model(model)) {
    Add(series->discarded, static_cast<double>(draws));
  }
}

void Metrics::Weights(const std::string& model, int64_t version,
                      const WeightSums& sums) {
  if (weights_listener_) weights_listener_(model, version, sums);
  MutexLock lock(mutex_);
  const auto it = versions_.find({model, version});
  if (it == versions_.end() || sums.draws() == 0) return;
  const double shift = sums.log_w_max() - it->second.log_weight_reference;
  Add(it->second.samples, static_cast<double>(sums.draws()));
  Add(it->second.sum, sums.sum_w() * std::exp(shift));
  Add(it->second.square_sum, sums.sum_w2() * std::exp(2 * shift));
}

void Metrics::NonFinite(const std::string& model, absl::string_view kind,
                        int64_t count) {
  MutexLock lock(mutex_);
  if (ModelSeries* series = Model(model)) {
    Add(series->non_finite.at(std::string(kind)), static_cast<double>(count));
  }
}

void Metrics::RejectionRuns(const std::string& model,
                            const std::vector<uint64_t>& lengths) {
  MutexLock lock(mutex_);
  ModelSeries* series = Model(model);
  for (size_t i = 0; series != nullptr && i < lengths.size(); ++i) {
    Observe(series->rejection_run, static_cast<double>(lengths[i]));
  }
}

void Metrics::ReplicaAudited(const std::string& model, bool same) {
  MutexLock lock(mutex_);
  if (ModelSeries* series = Model(model)) {
    Add(series->replica_audits, 1);
    Add(series->replica_mismatches, same ? 0 : 1);
  }
}

void Metrics::Chain(const std::string& model, int64_t proposals,
                    int64_t accepted) {
  MutexLock lock(mutex_);
  if (ModelSeries* series = Model(model)) {
    Add(series->proposals, static_cast<double>(proposals));
    Add(series->accepted, static_cast<double>(accepted));
  }
}

ModelFigures Metrics::FiguresLocked(const std::string& model,
                                    const ModelSeries& series) const {
  ModelFigures figures{.live = series.live,
                       .draws = series.delivered->Value(),
                       .queued = series.queue->Value(),
                       .queue_capacity = series.queue_capacity->Value(),
                       .proposals = series.proposals->Value(),
                       .accepted = series.accepted->Value()};
  const auto live = versions_.find({model, series.live});
  if (live == versions_.end()) return figures;
  figures.samples = live->second.samples->Value();
  figures.sum_w = live->second.sum->Value();
  figures.sum_w2 = live->second.square_sum->Value();
  return figures;
}

ModelFigures Metrics::Figures(const std::string& model) const {
  MutexLock lock(mutex_);
  const auto it = models_.find(model);
  return it == models_.end() ? ModelFigures()
                             : FiguresLocked(model, it->second);
}

std::map<std::string, ModelFigures> Metrics::AllFigures() const {
  std::map<std::string, ModelFigures> figures;
  MutexLock lock(mutex_);
  for (const auto& [model, series] : models_) {
    figures[model] = FiguresLocked(model, series);
  }
  return figures;
}

ServerFigures Metrics::Totals() const {
  ServerFigures totals;
  for (const auto& [rpc, series] : rpcs_) {
    totals.calls[absl::StrCat(rpc.service, "/", rpc.method)] =
        static_cast<uint32_t>(std::max(0.0, series.in_flight->Value()));
  }
  for (const auto& [reason, counter] : rejections_) {
    totals.rejected[reason] = static_cast<uint64_t>(counter->Value());
  }
  totals.device_busy_seconds = device_busy_->Value();
  return totals;
}

std::string Metrics::Text() const {
  if (runtime_.device_memory) {
    for (const auto& [kind, bytes] : runtime_.device_memory()) {
      device_memory_->Add({{"kind", kind}}).Set(bytes);
    }
  }
  auto families = registry_.Collect();
  AppendProcessMetrics(&families);
  std::ostringstream text;
  text.precision(17);
  prometheus::TextSerializer().Serialize(text, families);
  return text.str();
}

}  // namespace latticed
