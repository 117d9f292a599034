#include "server/watcher.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/random/stream.h"
#include "server/log.h"

namespace latticed {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The version itself is at fault, as opposed to the way to it.
bool Permanent(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsInvalidArgument(status) ||
         absl::IsFailedPrecondition(status) || absl::IsNotFound(status) ||
         absl::IsOutOfRange(status);
}

uint64_t DigestPrefix(const std::string& digest) {
  uint64_t prefix = 0;
  const std::string bytes = absl::HexStringToBytes(digest.substr(0, 16));
  for (const char byte : bytes) {
    prefix = prefix << 8 | static_cast<unsigned char>(byte);
  }
  return prefix;
}

}  // namespace

Watcher::Watcher(const Config& config, SamplerFactory make_sampler,
                 std::shared_ptr<FlowStore> store,
                 std::shared_ptr<Scheduler> scheduler,
                 std::shared_ptr<Graveyard> graveyard,
                 std::shared_ptr<Metrics> metrics,
                 std::function<void(const std::string& model)> on_live)
    : config_(config),
      make_sampler_(std::move(make_sampler)),
      store_(std::move(store)),
      scheduler_(std::move(scheduler)),
      graveyard_(std::move(graveyard)),
      metrics_(std::move(metrics)),
      on_live_(std::move(on_live)) {}

Watcher::~Watcher() { Stop(); }

void Watcher::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Watcher::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool Watcher::Stopping() const {
  MutexLock lock(mutex_);
  return stopping_;
}

void Watcher::Run() {
  const auto period = std::chrono::milliseconds(
      static_cast<int64_t>(1000 * config_.poll_seconds));
  while (true) {
    const auto due = Clock::now() + period;
    {
      MutexLock lock(mutex_);
      while (!stopping_) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            due - Clock::now());
        if (left.count() <= 0) break;
        wake_.WaitFor(mutex_, std::min<std::chrono::milliseconds>(
                                  left, std::chrono::seconds(1)));
      }
      if (stopping_) return;
    }
    Report("repository", Poll());
  }
}

absl::Status Watcher::Poll() {
  auto models = ListModels(config_.repository);
  if (!models.ok()) {
    metrics_->RepositoryError();
    return models.status();
  }
  metrics_->RepositoryRead();
  if (models->size() > static_cast<size_t>(config_.models_max)) {
    Report("models",
           absl::ResourceExhaustedError(absl::StrCat(
               models->size(), " models, of which only the first ",
               config_.models_max, " are served; raise --models_max")));
    models->resize(static_cast<size_t>(config_.models_max));
  }
  // All are known before the first is loaded: a call for one that is still
  // loading is told to come back, not that there is no such model.
  for (const std::string& model : *models) {
    if (!store_->Records(model).empty()) continue;
    const auto versions = ListVersions(config_.repository, model);
    if (!versions.ok() || versions->empty()) continue;
    store_->Put({.model = model, .version = versions->back()});
  }
  for (const std::string& model : *models) {
    if (Stopping()) break;
    const absl::Status status = PollModel(model);
    if (!status.ok()) metrics_->RepositoryError();
    Report(model, status);
  }
  return absl::OkStatus();
}

absl::Status Watcher::PollModel(const std::string& model) {
  auto versions = ListVersions(config_.repository, model);
  if (!versions.ok()) return versions.status();
  const VersionRef live = store_->Live(model);
  if (!versions->empty()) metrics_->AddModel(model);
  bool settled = false;  // a newer one is live: older ones are only listed
  size_t listed = 0;
  for (auto it = versions->rbegin(); it != versions->rend(); ++it) {
    if (Stopping() || ++listed > FlowStore::kRecordsMax) break;
    const int64_t version = *it;
    if (live != nullptr && version <= live->version) break;
    const auto record = store_->Record(model, version);
    if (settled) {
      if (!record) store_->Put({.model = model, .version = version});
      continue;
    }
    const auto digest = ReadDigest(config_.repository, model, version);
    if (!digest.ok()) {
      metrics_->ModelLoaded(model, "failed", "unreadable");
      Report(absl::StrCat(model, " version ", version), digest.status());
      continue;
    }
    if (record && record->state == v1::VERSION_STATE_REJECTED &&
        record->digest == *digest) {
      continue;
    }
    settled = TryVersion(model, version, *digest);
  }
  return absl::OkStatus();
}

void Watcher::Reject(VersionRecord record, const absl::Status& why) {
  record.state = v1::VERSION_STATE_REJECTED;
  record.reason = std::string(why.message());
  const bool non_finite = absl::IsOutOfRange(why);
  metrics_->ModelLoaded(record.model, "rejected",
                        non_finite              ? "non_finite"
                        : absl::IsDataLoss(why) ? "damaged"
                                                : "unusable");
  const VersionRef live = store_->Live(record.model);
  Log(LogLevel::kError,
      absl::StrCat(record.model, " version ", record.version, " (",
                   record.digest.substr(0, 12), ") rejected: ", record.reason,
                   live == nullptr ? "; nothing is live"
                                   : absl::StrCat("; version ", live->version,
                                                  " keeps serving")));
  store_->Put(std::move(record));
}

bool Watcher::TryVersion(const std::string& model, int64_t version,
                         const std::string& digest) {
  const auto start = Clock::now();
  VersionRecord record{.model = model, .version = version, .digest = digest};
  record.state = v1::VERSION_STATE_VERIFYING;
  store_->Put(record);
  auto checkpoint = ReadVersion(config_.repository, model, version);
  if (!checkpoint.ok()) {
    if (Permanent(checkpoint.status())) {
      Reject(std::move(record), checkpoint.status());
    } else {
      metrics_->ModelLoaded(model, "failed", "unreadable");
      Report(absl::StrCat(model, " version ", version), checkpoint.status());
    }
    return false;
  }
  metrics_->LoadPhase(model, "verify", Since(start));

  const auto load_start = Clock::now();
  record.digest = checkpoint->digest;
  record.manifest = std::make_shared<const v1::Manifest>(checkpoint->manifest);
  record.state = v1::VERSION_STATE_LOADING;
  store_->Put(record);
  absl::StatusOr<std::unique_ptr<TileSampler>> sampler;
  try {
    sampler = make_sampler_(*checkpoint);
  } catch (const std::exception& e) {
    sampler = absl::FailedPreconditionError(
        absl::StrCat("the flow could not be built: ", e.what()));
  }
  if (!sampler.ok()) {
    Reject(std::move(record), sampler.status());
    return false;
  }
  auto served = std::make_unique<ServedVersion>();
  served->model = model;
  served->version = version;
  served->digest = checkpoint->digest;
  served->digest_prefix = DigestPrefix(checkpoint->digest);
  served->manifest = std::move(checkpoint->manifest);
  served->numerics_mode = (*sampler)->numerics_mode();
  served->lattice = (*sampler)->lattice();
  served->tile = (*sampler)->tile();
  served->sampler = std::move(*sampler);
  const VersionRef ref = graveyard_->Adopt(std::move(served));
  metrics_->LoadPhase(model, "load", Since(load_start));

  const auto smoke_start = Clock::now();
  const absl::Status smoke = SmokeCheck(ref);
  if (absl::IsCancelled(smoke)) return false;
  if (!smoke.ok()) {
    Reject(std::move(record), smoke);
    return false;
  }
  metrics_->LoadPhase(model, "warmup", Since(smoke_start));

  record.numerics_mode = ref->numerics_mode;
  record.state = v1::VERSION_STATE_LIVE;
  store_->Put(std::move(record));
  const auto& quality = ref->manifest.quality();
  metrics_->AddVersion(model, version, ref->digest,
                       ref->manifest.log_weight_reference(), quality.ess(),
                       quality.acceptance());
  metrics_->SetSlot(model, version, "live");
  const VersionRef before = store_->Live(model);
  const VersionRef retired = store_->GoLive(ref);
  if (before != nullptr) {
    metrics_->SetSlot(model, before->version, "previous");
  }
  if (retired != nullptr) metrics_->SetSlot(model, retired->version, "");
  metrics_->QueueCapacity(
      model,
      config_.buffer_bytes_max / Block::Bytes(1, ref->lattice.Sites(), true));
  metrics_->ModelLoaded(model, "live", "");
  Log(LogLevel::kInfo,
      absl::StrCat(ref->Name(), " is live: ", ref->numerics_mode));
  on_live_(model);
  return true;
}

absl::Status Watcher::SmokeCheck(const VersionRef& version) {
  if (config_.smoke_draws == 0) return absl::OkStatus();
  DrawRequest request;
  request.version = version;
  request.stream = NamedStream("latticed smoke check");
  request.count = static_cast<uint64_t>(config_.smoke_draws);
  request.block_draws = version->tile;
  request.phi = false;
  std::unique_ptr<DrawJob> job;
  const grpc::Status submitted = scheduler_->Submit(std::move(request), &job);
  if (!submitted.ok()) return absl::CancelledError("stopping");
  int64_t non_finite = 0;
  while (!job->Done()) {
    const std::unique_ptr<Block> block = job->Pop();
    if (block != nullptr) {
      for (int64_t i = 0; i < block->count; ++i) {
        const size_t at = static_cast<size_t>(i);
        if (!std::isfinite(block->log_q()[at]) ||
            !std::isfinite(block->action()[at])) {
          ++non_finite;
        }
      }
      continue;
    }
    if (!job->Failure().ok()) {
      return absl::FailedPreconditionError(job->Failure().error_message());
    }
    if (Stopping()) return absl::CancelledError("stopping");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (non_finite == 0) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(
      non_finite, " of ", config_.smoke_draws,
      " draws have no finite log q or action: the weights are damaged or the "
      "training diverged; publish an earlier checkpoint"));
}

void Watcher::Report(const std::string& subject, const absl::Status& status) {
  const auto it = reported_.find(subject);
  if (status.ok()) {
    if (it == reported_.end()) return;
    reported_.erase(it);
    Log(LogLevel::kInfo, absl::StrCat(subject, " is readable again"));
    return;
  }
  const std::string message(status.message());
  if (it != reported_.end() && it->second == message) return;
  reported_[subject] = message;
  Log(LogLevel::kError, absl::StrCat(subject, ": ", message));
}

}  // namespace latticed
