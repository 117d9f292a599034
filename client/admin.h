// What operators ask of a server, on its admin listener (by default
// 127.0.0.1:7411). Retried like every call: a request_id of its own makes each
// mutation happen once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/session.h"
#include "latticed/v1/admin.pb.h"

namespace latticed {

// Thread-safe. Statuses are the server's.
class AdminClient {
 public:
  explicit AdminClient(std::shared_ptr<const Session> session);

  // Looks at the repository now; `model` empty: at all of it.
  absl::StatusOr<std::vector<v1::ModelVersion>> Refresh(
      const std::string& model);
  // Each returns the version it was about; Rollback the one that serves now.
  absl::StatusOr<v1::ModelVersion> Promote(const std::string& model,
                                           const std::string& digest);
  absl::StatusOr<v1::ModelVersion> Rollback(const std::string& model,
                                            const std::string& reason);
  absl::StatusOr<v1::ModelVersion> Quarantine(const std::string& model,
                                              const std::string& digest,
                                              const std::string& reason);
  absl::StatusOr<v1::ModelVersion> Unquarantine(const std::string& model,
                                                const std::string& digest);
  absl::Status Drain();
  absl::StatusOr<v1::GetServerInfoResponse> Info();

 private:
  std::shared_ptr<const Session> session_;
};

}  // namespace latticed
