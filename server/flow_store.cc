#include "server/flow_store.h"

#include <utility>

namespace latticed {

void FlowStore::Put(VersionRecord record) {
  MutexLock lock(mutex_);
  auto& records = models_[record.model].records;
  const int64_t version = record.version;
  records[version] = std::move(record);
  if (records.size() > kRecordsMax) records.erase(records.begin());
}

VersionRef FlowStore::GoLive(VersionRef version) {
  MutexLock lock(mutex_);
  Model& model = models_[version->model];
  VersionRef retired = std::move(model.previous);
  model.previous = std::move(model.live);
  model.live = std::move(version);
  const auto set = [&model](const VersionRef& ref, v1::VersionState state) {
    if (ref == nullptr) return;
    const auto it = model.records.find(ref->version);
    if (it != model.records.end()) it->second.state = state;
  };
  set(retired, v1::VERSION_STATE_RETIRED);
  set(model.previous, v1::VERSION_STATE_PREVIOUS);
  set(model.live, v1::VERSION_STATE_LIVE);
  return retired;
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

VersionRef FlowStore::LoadedByDigest(absl::string_view digest) const {
  MutexLock lock(mutex_);
  for (const auto& [name, model] : models_) {
    for (const VersionRef& version : {model.live, model.previous}) {
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
