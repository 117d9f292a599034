// The status page's figures: /status.json.
//
// Nothing about who draws what is in them: no principals, no streams, no
// addresses, no settings. Thread-safe.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "latticed/v1/status.pb.h"
#include "server/flow_store.h"
#include "server/lifecycle.h"
#include "server/metrics.h"
#include "server/recent_draws.h"
#include "server/status_history.h"

namespace latticed {

class StatusReport {
 public:
  static constexpr int kModelsMax = 64;
  static constexpr int kVersionsMax = 10;  // of a model, the newest

  // `device`: as --device.
  StatusReport(std::string device, std::shared_ptr<const FlowStore> store,
               std::shared_ptr<const Metrics> metrics,
               std::shared_ptr<const Lifecycle> lifecycle);

  // For the worker.
  std::shared_ptr<RecentDraws> recent() const { return recent_; }
  // Keeps the history; to be called about once a second.
  void Tick();

  v1::ServerStatus Status(bool draining) const;
  // The same as protobuf JSON.
  absl::StatusOr<std::string> Json(bool draining) const;

 private:
  double Seconds() const;
  void FillVersions(const VersionRef& live, v1::StatusModel* status) const;
  void FillLive(const ServedVersion& live, const ModelFigures& figures,
                v1::StatusModel* status) const;

  const std::string device_;
  const std::shared_ptr<const FlowStore> store_;
  const std::shared_ptr<const Metrics> metrics_;
  const std::shared_ptr<const Lifecycle> lifecycle_;
  const std::shared_ptr<RecentDraws> recent_;
  const std::chrono::steady_clock::time_point start_;
  const std::string start_id_;
  const std::string start_time_;
  StatusHistory history_;
};

}  // namespace latticed
