// Compares draws with other replicas: the same stream under the same digest
// must be the same bytes everywhere.
//
// Every `audit_seconds` the next live model and the next peer: a tile of a
// fresh stream at a random index, drawn here in the background and asked of the
// peer by Sample. A peer that has not the version, or draws in another numerics
// mode or build, promises nothing and is not compared. A difference is counted
// and logged: which of the two is wrong nobody can tell from here.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/client_context.h"
#include "grpcpp/security/credentials.h"
#include "server/config.h"
#include "server/flow_store.h"
#include "server/metrics.h"
#include "server/mutex.h"
#include "server/scheduler.h"

namespace latticed {

class Auditor {
 public:
  // Reads the files of `config`; again whenever a comparison could not be made,
  // since certificates and tokens are replaced. FAILED_PRECONDITION names the
  // flag. `config` has peers.
  static absl::StatusOr<std::unique_ptr<Auditor>> Create(
      const Config& config, std::shared_ptr<FlowStore> store,
      std::shared_ptr<Scheduler> scheduler, std::shared_ptr<Metrics> metrics);
  ~Auditor();  // stops, also a call that waits for its peer

  void Start();

 private:
  struct Peer {
    std::string name;
    std::shared_ptr<grpc::ChannelInterface> channel;
    bool failing = false;  // and said so
  };
  struct Draws {
    std::vector<uint32_t> non_finite;
    std::string log_q, action, phi;

    bool operator==(const Draws&) const = default;
  };

  absl::Status Connect();
  Auditor(const Config& config, std::shared_ptr<FlowStore> store,
          std::shared_ptr<Scheduler> scheduler,
          std::shared_ptr<Metrics> metrics);
  void Run();
  // Not OK: nothing was compared, and why.
  absl::Status Audit(const VersionRef& version, const Peer& peer);
  absl::StatusOr<Draws> DrawHere(const VersionRef& version,
                                 const StreamId& stream, uint64_t first_index);
  absl::StatusOr<Draws> DrawThere(const VersionRef& version, const Peer& peer,
                                  const StreamId& stream, uint64_t first_index);
  bool Stopping() const;

  const Config config_;
  const std::shared_ptr<FlowStore> store_;
  const std::shared_ptr<Scheduler> scheduler_;
  const std::shared_ptr<Metrics> metrics_;
  std::string bearer_token_;
  std::string credentials_fingerprint_;
  std::vector<Peer> peers_;

  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* call_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

}  // namespace latticed
