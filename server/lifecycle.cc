#include "server/lifecycle.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "latticed/build_id.h"
#include "server/block.h"
#include "server/errors.h"
#include "server/gate.h"
#include "server/log.h"
#include "server/state_file.h"

namespace latticed {
namespace {

using std::chrono::steady_clock;

// One automatic rollback a model and hour: a second one is for a person.
constexpr auto kRollbackPeriod = std::chrono::hours(1);

// Since the epoch; 0 if it is no RFC 3339 time.
double SecondsOf(const std::string& time) {
  absl::Time parsed;
  std::string ignored;
  return absl::ParseTime(absl::RFC3339_full, time, &parsed, &ignored)
             ? absl::ToDoubleSeconds(parsed - absl::UnixEpoch())
             : 0;
}

grpc::Status NoSuchVersion(const std::string& model,
                           const std::string& digest) {
  return Error(grpc::StatusCode::NOT_FOUND, "VERSION_NOT_FOUND",
               absl::StrCat("model ", model, " has no version with digest ",
                            digest.substr(0, 64),
                            "; latticectl models --all lists digests"))
      .With("model", model)
      .With("digest", digest.substr(0, 64));
}

}  // namespace

absl::StatusOr<std::shared_ptr<Lifecycle>> Lifecycle::Create(
    const Config& config, std::shared_ptr<FlowStore> store,
    std::shared_ptr<Metrics> metrics, std::shared_ptr<Executor> executor,
    OnServing on_serving) {
  std::shared_ptr<Lifecycle> lifecycle(
      new Lifecycle(config, std::move(store), std::move(metrics),
                    std::move(executor), std::move(on_serving)));
  if (!config.state_directory.empty()) {
    auto state = ReadServerState(config.state_directory);
    if (!state.ok()) return state.status();
    MutexLock lock(lifecycle->mutex_);
    lifecycle->state_ = *std::move(state);
  }
  return lifecycle;
}

Lifecycle::Lifecycle(const Config& config, std::shared_ptr<FlowStore> store,
                     std::shared_ptr<Metrics> metrics,
                     std::shared_ptr<Executor> executor, OnServing on_serving)
    : config_(config),
      store_(std::move(store)),
      metrics_(std::move(metrics)),
      executor_(std::move(executor)),
      on_serving_(std::move(on_serving)) {}

const v1::Judgement* Lifecycle::FindLocked(const std::string& model,
                                           const std::string& digest) const {
  for (const v1::Judgement& judgement : state_.judgements()) {
    if (judgement.model() == model && judgement.digest() == digest) {
      return &judgement;
    }
  }
  return nullptr;
}

std::optional<v1::Judgement> Lifecycle::Standing(
    const std::string& model, const std::string& digest) const {
  MutexLock lock(mutex_);
  const v1::Judgement* found = FindLocked(model, digest);
  if (found == nullptr) return std::nullopt;
  const bool ours =
      found->build() == kBuildId && found->device() == config_.device;
  if (found->state() != v1::VERSION_STATE_QUARANTINED && !ours) {
    return std::nullopt;
  }
  return *found;
}

std::vector<v1::Judgement> Lifecycle::Judgements(const std::string& model,
                                                 size_t max) const {
  std::vector<v1::Judgement> found;
  MutexLock lock(mutex_);
  const auto& all = state_.judgements();
  for (auto it = all.rbegin(); it != all.rend() && found.size() < max; ++it) {
    if (it->model() == model) found.push_back(*it);
  }
  return found;
}

std::string Lifecycle::LastLive(const std::string& model) const {
  MutexLock lock(mutex_);
  const auto it = state_.live().find(model);
  return it == state_.live().end() ? "" : it->second;
}

void Lifecycle::SaveLocked() {
  if (config_.state_directory.empty()) return;
  const absl::Status saved = WriteServerState(config_.state_directory, state_);
  if (saved.ok()) {
    if (save_failed_) Log(LogLevel::kInfo, "the state file is written again");
    save_failed_ = false;
    return;
  }
  metrics_->RepositoryError("state");
  if (save_failed_) return;
  save_failed_ = true;
  Log(LogLevel::kError,
      absl::StrCat("the state file cannot be written, judgements hold until "
                   "this process ends: ",
                   saved.message()));
}

void Lifecycle::SaveIfFailed() {
  MutexLock lock(mutex_);
  if (save_failed_) SaveLocked();
}

void Lifecycle::RememberLocked(const std::string& model, int64_t version,
                               const std::string& digest,
                               v1::VersionState state,
                               const std::string& reason,
                               const v1::GateReport* gate) {
  auto& judgements = *state_.mutable_judgements();
  for (int i = 0; i < judgements.size(); ++i) {
    if (judgements[i].model() == model && judgements[i].digest() == digest) {
      judgements.DeleteSubrange(i, 1);
      break;
    }
  }
  v1::Judgement& judgement = *judgements.Add();
  judgement.set_model(model);
  judgement.set_version(version);
  judgement.set_digest(digest);
  judgement.set_state(state);
  judgement.set_reason(reason);
  judgement.set_build(kBuildId);
  judgement.set_device(config_.device);
  judgement.set_time(
      absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone()));
  if (gate != nullptr) *judgement.mutable_gate() = *gate;
}

void Lifecycle::GoLive(const VersionRef& version, const v1::GateReport* gate) {
  MutexLock lock(mutex_);
  GoLiveLocked(version, gate);
}

void Lifecycle::GoLiveLocked(const VersionRef& version,
                             const v1::GateReport* gate) {
  const std::string& model = version->model;
  (*state_.mutable_live())[model] = version->digest;
  SaveLocked();
  Watch(*version, gate == nullptr ? 0 : gate->ess().value());
  const auto& quality = version->manifest.quality();
  metrics_->AddVersion(
      model, version->version, version->digest, version->numerics_mode,
      version->manifest.log_weight_reference(), quality.ess(),
      quality.acceptance(), SecondsOf(version->manifest.publish_time()));
  if (gate != nullptr) {
    metrics_->Gated(model, version->version, gate->ess().value(),
                    gate->acceptance().value());
  }
  metrics_->SetSlot(model, version->version, "live");
  const VersionRef before = store_->Live(model);
  const VersionRef retired = store_->GoLive(version);
  if (before != nullptr && before != version) {
    metrics_->SetSlot(model, before->version, "previous");
  }
  if (retired != nullptr) metrics_->SetSlot(model, retired->version, "");
  metrics_->QueueCapacity(model,
                          config_.buffer_bytes_max /
                              Block::Bytes(1, version->lattice.Sites(), true));
  metrics_->ModelLoaded(model, "live", "");
  Log(LogLevel::kInfo,
      absl::StrCat(version->Name(), " is live: ", version->numerics_mode));
  on_serving_(model, true);
}

void Lifecycle::Gate(const VersionRef& version) {
  store_->SetCandidate(version);
  Log(LogLevel::kInfo, absl::StrCat(version->Name(), " is at the gate"));
}

void Lifecycle::Judged(const VersionRef& version,
                       const v1::GateReport& report) {
  const std::string& model = version->model;
  const std::string failed = FailedChecks(report);
  for (const std::string& warning : report.warnings()) {
    Log(LogLevel::kWarning,
        absl::StrCat(version->Name(), " at the gate: ", warning));
  }
  MutexLock lock(mutex_);
  metrics_->LoadPhase(model, "gate", report.seconds());
  const auto record = store_->Record(model, version->version);
  const bool live = store_->Live(model) == version;
  store_->DropCandidate(version);
  // An operator was faster.
  if (!record || (!live && record->state != v1::VERSION_STATE_GATING)) return;
  const auto show = [&] {
    store_->SetGate(model, version->version,
                    std::make_shared<const v1::GateReport>(report));
  };
  if (report.passed()) {
    RememberLocked(model, version->version, version->digest,
                   v1::VERSION_STATE_LIVE, "", &report);
    SaveLocked();
    show();
    if (!live) return GoLiveLocked(version, &report);
    Watch(*version, report.ess().value());
    metrics_->Gated(model, version->version, report.ess().value(),
                    report.acceptance().value());
    Log(LogLevel::kInfo, absl::StrCat(version->Name(), " passed the gate"));
    return;
  }
  metrics_->ModelLoaded(model, "rejected", "gate");
  const std::string reason = absl::StrCat("gate: ", failed);
  if (live) {
    // It went live because there was nothing else, and must not stay.
    QuarantineLocked(model, version->version, version->digest, reason);
    return show();
  }
  RememberLocked(model, version->version, version->digest,
                 v1::VERSION_STATE_REJECTED, reason, &report);
  SaveLocked();
  show();
  store_->SetState(model, version->version, v1::VERSION_STATE_REJECTED, reason);
  const VersionRef serving = store_->Live(model);
  Log(LogLevel::kError,
      absl::StrCat(
          version->Name(), " rejected: ", reason, "; ",
          serving == nullptr
              ? "nothing is live"
              : absl::StrCat("version ", serving->version, " keeps serving")));
}

void Lifecycle::Reject(VersionRecord record, const std::string& label,
                       const std::string& why) {
  MutexLock lock(mutex_);
  record.state = v1::VERSION_STATE_REJECTED;
  record.reason = why;
  metrics_->ModelLoaded(record.model, "rejected", label);
  const VersionRef live = store_->Live(record.model);
  Log(LogLevel::kError,
      absl::StrCat(record.model, " version ", record.version, " (",
                   record.digest.substr(0, 12), ") rejected: ", record.reason,
                   live == nullptr ? "; nothing is live"
                                   : absl::StrCat("; version ", live->version,
                                                  " keeps serving")));
  store_->Put(std::move(record));
}

bool Lifecycle::FallBackLocked(const std::string& model,
                               const std::string& reason) {
  const VersionRef previous = store_->Previous(model);
  if (previous == nullptr) return false;
  const VersionRef bad = store_->Live(model);
  RememberLocked(model, bad->version, bad->digest,
                 v1::VERSION_STATE_QUARANTINED, reason, nullptr);
  const v1::Judgement* judged = FindLocked(model, previous->digest);
  const v1::GateReport gate =
      judged == nullptr ? v1::GateReport() : judged->gate();
  const bool gated = judged != nullptr && judged->has_gate();
  GoLiveLocked(previous, gated ? &gate : nullptr);
  store_->DropPrevious(model);
  metrics_->SetSlot(model, bad->version, "");
  store_->SetState(model, bad->version, v1::VERSION_STATE_QUARANTINED, reason);
  metrics_->ModelLoaded(model, "rolled_back", "");
  Log(LogLevel::kError,
      absl::StrCat(bad->Name(), " is quarantined, ", previous->Name(),
                   " serves again: ", reason));
  return true;
}

void Lifecycle::QuarantineLocked(const std::string& model, int64_t version,
                                 const std::string& digest,
                                 const std::string& reason) {
  const VersionRef live = store_->Live(model);
  const bool is_live = live != nullptr && live->digest == digest;
  if (is_live && FallBackLocked(model, reason)) return;
  RememberLocked(model, version, digest, v1::VERSION_STATE_QUARANTINED, reason,
                 nullptr);
  if (is_live) state_.mutable_live()->erase(model);
  SaveLocked();
  const VersionRef previous = store_->Previous(model);
  if (is_live) {
    // Nothing to go back to in memory; the watcher looks for an older version.
    on_serving_(model, false);
    store_->DropLive(model);
    metrics_->SetSlot(model, version, "");
  } else if (previous != nullptr && previous->digest == digest) {
    store_->DropPrevious(model);
    metrics_->SetSlot(model, version, "");
  }
  store_->SetState(model, version, v1::VERSION_STATE_QUARANTINED, reason);
  Log(LogLevel::kError,
      absl::StrCat(model, " version ", version, " (", digest.substr(0, 12),
                   ") is quarantined: ", reason));
}

grpc::Status Lifecycle::Promote(const VersionRef& version) {
  MutexLock lock(mutex_);
  const std::string& model = version->model;
  const v1::Judgement* judged = FindLocked(model, version->digest);
  if (judged != nullptr && judged->state() == v1::VERSION_STATE_QUARANTINED) {
    return Error(grpc::StatusCode::FAILED_PRECONDITION, "VERSION_QUARANTINED",
                 absl::StrCat(version->Name(), " is quarantined (",
                              judged->reason(),
                              "); unquarantine it first if you know better"))
        .With("model", model)
        .With("digest", version->digest);
  }
  const v1::GateReport gate =
      judged == nullptr ? v1::GateReport() : judged->gate();
  const bool gated = judged != nullptr && judged->has_gate();
  store_->DropCandidate(version);
  RememberLocked(model, version->version, version->digest,
                 v1::VERSION_STATE_LIVE, "promoted by an operator",
                 gated ? &gate : nullptr);
  if (store_->Live(model) == version) {
    SaveLocked();
  } else {
    GoLiveLocked(version, gated && gate.passed() ? &gate : nullptr);
  }
  return grpc::Status::OK;
}

grpc::Status Lifecycle::Rollback(const std::string& model,
                                 const std::string& reason) {
  MutexLock lock(mutex_);
  const VersionRef live = store_->Live(model);
  if (live != nullptr &&
      FallBackLocked(model, absl::StrCat("rolled back by an operator",
                                         reason.empty() ? "" : ": ", reason))) {
    return grpc::Status::OK;
  }
  return Error(grpc::StatusCode::FAILED_PRECONDITION, "NO_PREVIOUS_VERSION",
               absl::StrCat("model ", model,
                            " has no previous version loaded to go back to; "
                            "promote one by its digest, or quarantine the "
                            "live one so that an older one is loaded"))
      .With("model", model);
}

grpc::Status Lifecycle::Quarantine(const std::string& model,
                                   const std::string& digest,
                                   const std::string& reason) {
  MutexLock lock(mutex_);
  const auto record = store_->RecordByDigest(model, digest);
  if (!record) return NoSuchVersion(model, digest);
  QuarantineLocked(model, record->version, digest,
                   absl::StrCat("by an operator: ", reason));
  return grpc::Status::OK;
}

grpc::Status Lifecycle::Unquarantine(const std::string& model,
                                     const std::string& digest) {
  MutexLock lock(mutex_);
  auto& judgements = *state_.mutable_judgements();
  for (int i = 0; i < judgements.size(); ++i) {
    const v1::Judgement& judgement = judgements[i];
    if (judgement.model() != model || judgement.digest() != digest ||
        judgement.state() != v1::VERSION_STATE_QUARANTINED) {
      continue;
    }
    const int64_t version = judgement.version();
    judgements.DeleteSubrange(i, 1);
    SaveLocked();
    // The watcher meets it as if it were new.
    store_->SetState(model, version, v1::VERSION_STATE_DISCOVERED, "");
    Log(LogLevel::kInfo,
        absl::StrCat(model, " version ", version, " (", digest.substr(0, 12),
                     ") is no longer quarantined"));
    return grpc::Status::OK;
  }
  return Error(grpc::StatusCode::FAILED_PRECONDITION, "NOT_QUARANTINED",
               absl::StrCat("model ", model,
                            " has no quarantined version with digest ",
                            digest.substr(0, 64)))
      .With("model", model)
      .With("digest", digest.substr(0, 64));
}

void Lifecycle::Watch(const ServedVersion& version, double gate_ess) {
  MutexLock lock(health_mutex_);
  watched_.insert_or_assign(
      version.model, Watched{version.version, VersionHealth(gate_ess), false});
}

void Lifecycle::Observe(const std::string& model, int64_t version,
                        const WeightSums& sums) {
  std::string reason;
  {
    MutexLock lock(health_mutex_);
    const auto it = watched_.find(model);
    if (it == watched_.end() || it->second.version != version ||
        it->second.reported) {
      return;
    }
    reason = it->second.health.Observe(sums);
    if (reason.empty()) return;
    it->second.reported = true;
  }
  if (!config_.automatic_rollback) {
    Log(LogLevel::kError,
        absl::StrCat(model, " version ", version, ": ", reason,
                     "; --automatic_rollback is "
                     "off, it stays live"));
    return;
  }
  // Not here: the caller is a reply that holds its own lock.
  executor_->Post([self = shared_from_this(), model, version, reason] {
    self->TakeBack(model, version, reason);
  });
}

void Lifecycle::TakeBack(const std::string& model, int64_t version,
                         const std::string& reason) {
  MutexLock lock(mutex_);
  const VersionRef live = store_->Live(model);
  if (live == nullptr || live->version != version) return;
  const auto now = steady_clock::now();
  const auto last = taken_back_.find(model);
  const char* stays = nullptr;
  if (last != taken_back_.end() && now - last->second < kRollbackPeriod) {
    stays = "it was rolled back within the hour already";
  } else if (!FallBackLocked(model, reason)) {
    stays = "there is no previous version to go back to";
  } else {
    taken_back_[model] = now;
  }
  if (stays == nullptr) return;
  Log(LogLevel::kError, absl::StrCat(live->Name(), ": ", reason, "; ", stays,
                                     ", it stays live: look at it"));
}

}  // namespace latticed
