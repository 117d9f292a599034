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

bool SameTheory(const ServedVersion& a, const ServedVersion& b) {
  return a.manifest.spec().action().SerializeAsString() ==
             b.manifest.spec().action().SerializeAsString() &&
         a.lattice == b.lattice;
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
                 std::shared_ptr<Lifecycle> lifecycle,
                 std::shared_ptr<Gatekeeper> gatekeeper)
    : config_(config),
      make_sampler_(std::move(make_sampler)),
      store_(std::move(store)),
      scheduler_(std::move(scheduler)),
      graveyard_(std::move(graveyard)),
      metrics_(std::move(metrics)),
      lifecycle_(std::move(lifecycle)),
      gatekeeper_(std::move(gatekeeper)) {}

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

bool Watcher::Post(std::function<void()> task) {
  constexpr size_t kTasksMax = 64;
  MutexLock lock(mutex_);
  if (stopping_ || tasks_.size() >= kTasksMax) return false;
  tasks_.push_back(std::move(task));
  wake_.NotifyAll();
  return true;
}

void Watcher::Run() {
  const auto period = std::chrono::milliseconds(
      static_cast<int64_t>(1000 * config_.poll_seconds));
  while (true) {
    const auto due = Clock::now() + period;
    std::deque<std::function<void()>> tasks;
    {
      MutexLock lock(mutex_);
      while (!stopping_ && tasks_.empty()) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            due - Clock::now());
        if (left.count() <= 0) break;
        wake_.WaitFor(mutex_, std::min<std::chrono::milliseconds>(
                                  left, std::chrono::seconds(1)));
      }
      if (stopping_) return;
      tasks.swap(tasks_);
    }
    for (const auto& task : tasks) task();
    Report("repository", Poll());
  }
}

absl::Status Watcher::Poll() {
  lifecycle_->SaveIfFailed();
  auto models = ListModels(config_.repository);
  if (!models.ok()) {
    metrics_->RepositoryError("repository");
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
    if (!status.ok()) metrics_->RepositoryError("repository");
    Report(model, status);
  }
  return absl::OkStatus();
}

std::vector<int64_t> Watcher::InOrder(const std::string& model,
                                      std::vector<int64_t> versions) const {
  std::reverse(versions.begin(), versions.end());
  if (versions.size() > FlowStore::kRecordsMax) {
    versions.resize(FlowStore::kRecordsMax);
  }
  const std::string last = lifecycle_->LastLive(model);
  if (last.empty() || store_->Live(model) != nullptr) return versions;
  const auto it =
      std::find_if(versions.begin(), versions.end(), [&](int64_t version) {
        const auto digest = ReadDigest(config_.repository, model, version);
        return digest.ok() && *digest == last;
      });
  if (it != versions.end()) std::rotate(versions.begin(), it, it + 1);
  return versions;
}

absl::Status Watcher::PollModel(const std::string& model) {
  auto versions = ListVersions(config_.repository, model);
  if (!versions.ok()) return versions.status();
  if (!versions->empty()) metrics_->AddModel(model);
  // A newer one is live or on its way: older ones are only listed.
  bool settled = false;
  for (const int64_t version : InOrder(model, *std::move(versions))) {
    if (Stopping()) break;
    const VersionRef live = store_->Live(model);
    if (live != nullptr && version <= live->version) {
      List(model, version);
      continue;
    }
    if (settled || (gatekeeper_ != nullptr && gatekeeper_->Busy(model))) {
      List(model, version);
      continue;
    }
    const auto digest = ReadDigest(config_.repository, model, version);
    if (!digest.ok()) {
      metrics_->ModelLoaded(model, "failed", "unreadable");
      metrics_->RepositoryError("version");
      Report(absl::StrCat(model, " version ", version), digest.status());
      continue;
    }
    if (Settled(model, version, *digest)) continue;
    settled = TryVersion(model, version, *digest);
  }
  return absl::OkStatus();
}

void Watcher::List(const std::string& model, int64_t version) {
  if (store_->Record(model, version)) return;
  VersionRecord record{.model = model, .version = version};
  record.digest = ReadDigest(config_.repository, model, version).value_or("");
  store_->Put(std::move(record));
}

bool Watcher::Settled(const std::string& model, int64_t version,
                      const std::string& digest) {
  const bool serving = store_->Live(model) != nullptr;
  const auto record = store_->Record(model, version);
  if (record && record->digest == digest) {
    switch (record->state) {
      case v1::VERSION_STATE_REJECTED:
      case v1::VERSION_STATE_QUARANTINED:
      case v1::VERSION_STATE_GATING:
        return true;
      case v1::VERSION_STATE_LIVE:
      case v1::VERSION_STATE_PREVIOUS:
      case v1::VERSION_STATE_RETIRED:
        return serving;
      default:
        break;
    }
  }
  VersionRecord known{.model = model, .version = version, .digest = digest};
  const auto standing = lifecycle_->Standing(model, digest);
  if (standing && standing->state() != v1::VERSION_STATE_LIVE) {
    known.state = standing->state();
    known.reason = standing->reason();
    known.gate = std::make_shared<const v1::GateReport>(standing->gate());
    store_->Put(std::move(known));
    return true;
  }
  // Accepted in an earlier run, and an operator put an older one in its place.
  const bool untouched =
      !record || record->state == v1::VERSION_STATE_DISCOVERED;
  if (untouched && serving && standing) {
    known.state = v1::VERSION_STATE_RETIRED;
    store_->Put(std::move(known));
    return true;
  }
  return false;
}

absl::StatusOr<VersionRef> Watcher::Build(const Checkpoint& checkpoint,
                                          const Reference* reference,
                                          int step_factor) {
  absl::StatusOr<std::unique_ptr<TileSampler>> sampler;
  try {
    sampler = make_sampler_(checkpoint, step_factor);
  } catch (const std::exception& e) {
    return absl::FailedPreconditionError(
        absl::StrCat("the flow could not be built: ", e.what()));
  }
  if (!sampler.ok()) return sampler.status();
  auto served = std::make_unique<ServedVersion>();
  served->model = checkpoint.manifest.model();
  served->version = checkpoint.manifest.version();
  served->digest = checkpoint.digest;
  served->digest_prefix = DigestPrefix(checkpoint.digest);
  served->manifest = checkpoint.manifest;
  if (reference != nullptr) {
    served->reference =
        std::make_shared<const v1::ReferenceManifest>(reference->manifest);
  }
  served->numerics_mode = (*sampler)->numerics_mode();
  served->lattice = (*sampler)->lattice();
  served->tile = (*sampler)->tile();
  served->sampler = *std::move(sampler);
  return graveyard_->Adopt(std::move(served));
}

VersionRef Watcher::LoadVersion(const std::string& model, int64_t version,
                                const std::string& digest,
                                GateSubject* subject) {
  const auto start = Clock::now();
  VersionRecord record{.model = model, .version = version, .digest = digest};
  record.state = v1::VERSION_STATE_VERIFYING;
  store_->Put(record);
  const auto checkpoint = ReadVersion(config_.repository, model, version);
  if (!checkpoint.ok()) {
    if (Permanent(checkpoint.status())) {
      lifecycle_->Reject(
          std::move(record),
          absl::IsDataLoss(checkpoint.status()) ? "damaged" : "unusable",
          std::string(checkpoint.status().message()));
    } else {
      metrics_->ModelLoaded(model, "failed", "unreadable");
      metrics_->RepositoryError("version");
      Report(absl::StrCat(model, " version ", version), checkpoint.status());
      // Tried again at the next poll.
      record.state = v1::VERSION_STATE_DISCOVERED;
      store_->Put(std::move(record));
    }
    return nullptr;
  }
  metrics_->LoadPhase(model, "verify", Since(start));

  const auto load_start = Clock::now();
  record.digest = checkpoint->digest;
  record.reason.clear();
  record.manifest = std::make_shared<const v1::Manifest>(checkpoint->manifest);
  record.state = v1::VERSION_STATE_LOADING;
  store_->Put(record);
  const auto reference = ReferenceOf(*checkpoint);
  auto loaded = Build(*checkpoint, reference.get(), 1);
  if (loaded.ok() && subject != nullptr) {
    auto doubled = Build(*checkpoint, nullptr, 2);
    if (doubled.ok()) {
      *subject = {*loaded, *doubled, reference};
    } else {
      loaded = doubled.status();
    }
  }
  if (!loaded.ok()) {
    lifecycle_->Reject(std::move(record), "unusable",
                       std::string(loaded.status().message()));
    return nullptr;
  }
  metrics_->LoadPhase(model, "load", Since(load_start));

  const auto smoke_start = Clock::now();
  const absl::Status smoke = SmokeCheck(*loaded);
  if (absl::IsCancelled(smoke)) return nullptr;
  if (!smoke.ok()) {
    lifecycle_->Reject(std::move(record),
                       absl::IsOutOfRange(smoke) ? "non_finite" : "unusable",
                       std::string(smoke.message()));
    return nullptr;
  }
  metrics_->LoadPhase(model, "warmup", Since(smoke_start));
  record.numerics_mode = (*loaded)->numerics_mode;
  store_->Put(std::move(record));
  return *std::move(loaded);
}

std::shared_ptr<const Reference> Watcher::ReferenceOf(
    const Checkpoint& checkpoint) {
  const v1::Manifest& version = checkpoint.manifest;
  auto reference = ReadReference(config_.repository, version.model());
  const std::string subject = absl::StrCat(version.model(), " reference");
  if (absl::IsNotFound(reference.status())) return nullptr;
  if (reference.ok()) {
    const v1::ReferenceManifest& manifest = reference->manifest;
    if (manifest.lattice().SerializeAsString() !=
            version.spec().lattice().SerializeAsString() ||
        manifest.action().SerializeAsString() !=
            version.spec().action().SerializeAsString()) {
      reference = absl::FailedPreconditionError(absl::StrCat(
          "is of another action or lattice than version ", version.version(),
          "; the gate and the status page do without it. Write it again with "
          "latticed-train reference"));
    }
  }
  Report(subject, reference.status());
  if (!reference.ok()) {
    metrics_->RepositoryError("reference");
    return nullptr;
  }
  return std::make_shared<const Reference>(*std::move(reference));
}

absl::StatusOr<VersionRef> Watcher::Load(const std::string& model,
                                         const std::string& digest) {
  for (const VersionRef& loaded : {store_->Live(model), store_->Previous(model),
                                   store_->Candidate(model)}) {
    if (loaded != nullptr && loaded->digest == digest) return loaded;
  }
  const auto versions = ListVersions(config_.repository, model);
  if (!versions.ok()) return versions.status();
  for (auto it = versions->rbegin(); it != versions->rend(); ++it) {
    const auto found = ReadDigest(config_.repository, model, *it);
    if (!found.ok() || *found != digest) continue;
    if (const VersionRef loaded = LoadVersion(model, *it, digest, nullptr)) {
      return loaded;
    }
    const auto record = store_->Record(model, *it);
    return absl::FailedPreconditionError(absl::StrCat(
        model, " version ", *it, " cannot be loaded: ",
        record && !record->reason.empty() ? record->reason
                                          : "see the server's log"));
  }
  return absl::NotFoundError(absl::StrCat("the repository has no version of ",
                                          model, " with digest ", digest));
}

bool Watcher::TryVersion(const std::string& model, int64_t version,
                         const std::string& digest) {
  const auto standing = lifecycle_->Standing(model, digest);
  const bool accepted = standing.has_value();
  const bool gate = gatekeeper_ != nullptr && !accepted;
  GateSubject subject;
  const VersionRef loaded =
      LoadVersion(model, version, digest, gate ? &subject : nullptr);
  if (loaded == nullptr) return false;
  const VersionRef live = store_->Live(model);
  if (gatekeeper_ != nullptr && live != nullptr &&
      !SameTheory(*loaded, *live)) {
    lifecycle_->Reject(
        *store_->Record(model, version), "unusable",
        absl::StrCat("it has another action or lattice than ", live->Name(),
                     "; publish it as another model"));
    return false;
  }
  if (live == nullptr || !gate) {
    lifecycle_->GoLive(
        loaded, accepted && standing->has_gate() ? &standing->gate() : nullptr);
  } else {
    lifecycle_->Gate(loaded);
  }
  if (gate) gatekeeper_->Add(std::move(subject));
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
