// Which versions of which models there are, and which of them are loaded.
//
// Up to three versions of a model stay loaded, LIVE, PREVIOUS and the CANDIDATE
// at the gate; calls keep others alive until they end. lifecycle.h says who
// becomes what. Thread-safe, and calls nobody under its lock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "latticed/v1/model.pb.h"
#include "server/mutex.h"
#include "server/served_version.h"

namespace latticed {

struct VersionRecord {
  std::string model;
  int64_t version = 0;
  std::string digest;  // empty until the manifest was read
  v1::VersionState state = v1::VERSION_STATE_DISCOVERED;
  std::string reason;  // of REJECTED and QUARANTINED
  std::shared_ptr<const v1::Manifest> manifest;
  std::string numerics_mode;
  std::shared_ptr<const v1::GateReport> gate;  // null before the verdict
  uint64_t change = 0;  // number of its last change, over all records
};

class FlowStore {
 public:
  // Records of a model that are kept: the newest ones.
  static constexpr size_t kRecordsMax = 256;

  void Put(VersionRecord record);
  // `version` is live from now on. Returns the one that is neither LIVE nor
  // PREVIOUS any more, or null.
  VersionRef GoLive(VersionRef version);
  // Its record turns GATING.
  void SetCandidate(VersionRef version);
  void DropCandidate(const VersionRef& version);  // if it is the one
  // Without a word about the record.
  void DropPrevious(const std::string& model);
  void DropLive(const std::string& model);
  // Of a record that there is.
  void SetState(const std::string& model, int64_t version,
                v1::VersionState state, const std::string& reason);
  void SetGate(const std::string& model, int64_t version,
               std::shared_ptr<const v1::GateReport> gate);

  std::vector<std::string> Models() const;  // sorted
  VersionRef Live(const std::string& model) const;
  VersionRef Previous(const std::string& model) const;
  VersionRef Candidate(const std::string& model) const;
  // Among all loaded versions.
  VersionRef LoadedByDigest(absl::string_view digest) const;
  std::vector<VersionRef> AllLive() const;
  // `model` ("": any model, or the server before it knows of one) has nothing
  // live yet and versions that may still be.
  bool Starting(const std::string& model) const;

  std::optional<VersionRecord> Record(const std::string& model,
                                      int64_t version) const;
  std::optional<VersionRecord> RecordByDigest(const std::string& model,
                                              absl::string_view digest) const;
  std::vector<VersionRecord> Records(
      const std::string& model) const;  // newest first

  // Records of `model` ("": of all) that changed after change number `after`,
  // in the order of their last changes.
  std::vector<VersionRecord> ChangedSince(const std::string& model,
                                          uint64_t after) const;
  // Called after every change, until the returned handle is gone.
  using Listener = std::function<void()>;
  std::shared_ptr<void> Listen(Listener listener);

 private:
  struct Model {
    std::map<int64_t, VersionRecord> records;
    VersionRef live;
    VersionRef previous;
    VersionRef candidate;
  };

  VersionRecord* FindLocked(const std::string& model, int64_t version)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetStateLocked(const VersionRef& version, v1::VersionState state)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Notify() ABSL_LOCKS_EXCLUDED(mutex_);

  mutable Mutex mutex_;
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::weak_ptr<Listener>> listeners_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Model> models_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
