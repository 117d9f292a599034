// Which versions of which models there are, and which of them are loaded.
//
//   DISCOVERED -> VERIFYING -> LOADING -> LIVE | REJECTED,
//   LIVE -> PREVIOUS -> RETIRED
//
// Two versions of a model stay loaded, LIVE and PREVIOUS; calls keep others
// alive until they end. Thread-safe, and calls nobody under its lock.
#pragma once

#include <cstdint>
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
  std::string reason;  // of REJECTED
  std::shared_ptr<const v1::Manifest> manifest;
  std::string numerics_mode;
};

class FlowStore {
 public:
  // Records of a model that are kept: the newest ones.
  static constexpr size_t kRecordsMax = 256;

  void Put(VersionRecord record);
  // `version` is live from now on. Returns the one that is neither LIVE nor
  // PREVIOUS any more, or null.
  VersionRef GoLive(VersionRef version);

  std::vector<std::string> Models() const;  // sorted
  VersionRef Live(const std::string& model) const;
  VersionRef Previous(const std::string& model) const;
  // Among all loaded versions.
  VersionRef LoadedByDigest(absl::string_view digest) const;
  std::vector<VersionRef> AllLive() const;

  std::optional<VersionRecord> Record(const std::string& model,
                                      int64_t version) const;
  std::optional<VersionRecord> RecordByDigest(const std::string& model,
                                              absl::string_view digest) const;
  std::vector<VersionRecord> Records(
      const std::string& model) const;  // newest first

 private:
  struct Model {
    std::map<int64_t, VersionRecord> records;
    VersionRef live;
    VersionRef previous;
  };

  mutable Mutex mutex_;
  std::map<std::string, Model> models_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
