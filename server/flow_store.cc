#include "server/flow_store.h"

#include <algorithm>
#include <utility>

namespace latticed {

void FlowStore::Put(VersionRecord record) {
  {
    MutexLock lock(mutex_);
    auto& records = models_[record.model].records;
    const int64_t version = record.version;
    record.change = ++changes_;
    records[version] = std::move(record);
    if (records.size() > kRecordsMax) records.erase(records.begin());
  }
  Notify();
}

VersionRecord* FlowStore::FindLocked(const std::string& model,
                                     int64_t version) {
  auto& records = models_[model].records;
  const auto it = records.find(version);
  return it == records.end() ? nullptr : &it->second;
}

void FlowStore::SetStateLocked(const VersionRef& version,
                               v1::VersionState state) {
  VersionRecord* record = version == nullptr
                              ? nullptr
                              : FindLocked(version->model, version->version);
  if (record == nullptr) return;
  record->state = state;
  record->reason.clear();
  record->change = ++changes_;
}

VersionRef FlowStore::GoLive(VersionRef version) {
  VersionRef retired;
  {
    MutexLock lock(mutex_);
    Model& model = models_[version->model];
    retired = std::move(model.previous);
    if (retired == version) retired = nullptr;
    if (model.candidate == version) model.candidate = nullptr;
    model.previous = std::move(model.live);
    model.live = std::move(version);
    SetStateLocked(retired, v1::VERSION_STATE_RETIRED);
    SetStateLocked(model.previous, v1::VERSION_STATE_PREVIOUS);
    SetStateLocked(model.live, v1::VERSION_STATE_LIVE);
  }
  Notify();
  return retired;
}

void FlowStore::SetCandidate(VersionRef version) {
  const std::string model = version->model;
  const int64_t number = version->version;
  {
    MutexLock lock(mutex_);
    models_[model].candidate = std::move(version);
  }
  SetState(model, number, v1::VERSION_STATE_GATING, "");
}

void FlowStore::DropCandidate(const VersionRef& version) {
  MutexLock lock(mutex_);
  Model& model = models_[version->model];
  if (model.candidate == version) model.candidate = nullptr;
}

void FlowStore::DropPrevious(const std::string& model) {
  MutexLock lock(mutex_);
  models_[model].previous = nullptr;
}

void FlowStore::DropLive(const std::string& model) {
  MutexLock lock(mutex_);
  models_[model].live = nullptr;
}

void FlowStore::SetState(const std::string& model, int64_t version,
                         v1::VersionState state, const std::string& reason) {
  {
    MutexLock lock(mutex_);
    VersionRecord* record = FindLocked(model, version);
    if (record == nullptr) return;
    record->state = state;
    record->reason = reason;
    record->change = ++changes_;
  }
  Notify();
}

void FlowStore::SetGate(const std::string& model, int64_t version,
                        std::shared_ptr<const v1::GateReport> gate) {
  {
    MutexLock lock(mutex_);
    VersionRecord* record = FindLocked(model, version);
    if (record == nullptr) return;
    record->gate = std::move(gate);
    record->change = ++changes_;
  }
  Notify();
}

std::vector<VersionRecord> FlowStore::ChangedSince(const std::string& model,
                                                   uint64_t after) const {
  std::vector<VersionRecord> changed;
  {
    MutexLock lock(mutex_);
    for (const auto& [name, entry] : models_) {
      if (!model.empty() && name != model) continue;
      for (const auto& [version, record] : entry.records) {
        if (record.change > after) changed.push_back(record);
      }
    }
  }
  std::sort(changed.begin(), changed.end(),
            [](const VersionRecord& a, const VersionRecord& b) {
              return a.change < b.change;
            });
  return changed;
}

std::shared_ptr<void> FlowStore::Listen(Listener listener) {
  auto handle = std::make_shared<Listener>(std::move(listener));
  MutexLock lock(mutex_);
  // Those that are gone are swept here, so that the list stays bounded.
  listeners_.erase(
      std::remove_if(listeners_.begin(), listeners_.end(),
                     [](const auto& entry) { return entry.expired(); }),
      listeners_.end());
  listeners_.push_back(handle);
  return handle;
}

void FlowStore::Notify() {
  std::vector<std::shared_ptr<Listener>> listeners;
  {
    MutexLock lock(mutex_);
    for (const auto& entry : listeners_) {
      if (auto listener = entry.lock()) listeners.push_back(listener);
    }
  }
  for (const auto& listener : listeners) (*listener)();
}

std::vector<std::string> FlowStore::Models() const {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, model] : models_) names.push_back(name);
  return names;
}

VersionRef FlowStore::Live(const std::string& model) const {
  MutexLock lock(mutex_);
  const auto it = models_.find(model);
  return it == models_.end() ? nullptr : it->second.live;
}

VersionRef FlowStore::Previous(const std::string& model) const {
  MutexLock lock(mutex_);
  const auto it = models_.find(model);
  return it == models_.end() ? nullptr : it->second.previous;
}

VersionRef FlowStore::Candidate(const std::string& model) const {
  MutexLock lock(mutex_);
  const auto it = models_.find(model);
  return it == models_.end() ? nullptr : it->second.candidate;
}

VersionRef FlowStore::LoadedByDigest(absl::string_view digest) const {
  MutexLock lock(mutex_);
  for (const auto& [name, model] : models_) {
    for (const VersionRef& version :
         {model.live, model.previous, model.candidate}) {
      if (version != nullptr && version->digest == digest) return version;
    }
  }
  return nullptr;
}

std::vector<VersionRef> FlowStore::AllLive() const {
  MutexLock lock(mutex_);
  std::vector<VersionRef> live;
  for (const auto& [name, model] : models_) {
    if (model.live != nullptr) live.push_back(model.live);
  }
  return live;
}

bool FlowStore::Starting(const std::string& model) const {
  MutexLock lock(mutex_);
  if (model.empty() && models_.empty()) return true;
  for (const auto& [name, entry] : models_) {
    if ((!model.empty() && name != model) || entry.live != nullptr) continue;
    for (const auto& [version, record] : entry.records) {
      if (record.state == v1::VERSION_STATE_DISCOVERED ||
          record.state == v1::VERSION_STATE_VERIFYING ||
          record.state == v1::VERSION_STATE_LOADING) {
        return true;
      }
    }
  }
  return false;
}

std::optional<VersionRecord> FlowStore::Record(const std::string& model,
                                               int64_t version) const {
  MutexLock lock(mutex_);
  const auto it = models_.find(model);
  if (it == models_.end()) return std::nullopt;
  const auto record = it->second.records.find(version);
  if (record == it->second.records.end()) return std::nullopt;
  return record->second;
}

std::optional<VersionRecord> FlowStore::RecordByDigest(
    const std::string& model, absl::string_view digest) const {
  MutexLock lock(mutex_);
  const auto it = models_.find(model);
  if (it == models_.end()) return std::nullopt;
  for (const auto& [version, record] : it->second.records) {
    if (record.digest == digest) return record;
  }
  return std::nullopt;
}

std::vector<VersionRecord> FlowStore::Records(const std::string& model) const {
  MutexLock lock(mutex_);
  std::vector<VersionRecord> records;
  const auto it = models_.find(model);
  if (it == models_.end()) return records;
  for (auto record = it->second.records.rbegin();
       record != it->second.records.rend(); ++record) {
    records.push_back(record->second);
  }
  return records;
}

}  // namespace latticed
