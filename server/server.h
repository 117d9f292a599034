// The whole server as one object: what main runs and tests start in process.
//
//   repository -> watcher -> store <- services <- gRPC
//                    |                    |
//                    `---> scheduler <----'
//                              |
//                            worker (the device)
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "core/http/http_server.h"
#include "grpcpp/server.h"
#include "server/admin_service.h"
#include "server/auditor.h"
#include "server/auth.h"
#include "server/call.h"
#include "server/chain_service.h"
#include "server/config.h"
#include "server/gatekeeper.h"
#include "server/lifecycle.h"
#include "server/measure_service.h"
#include "server/model_service.h"
#include "server/sampler_service.h"
#include "server/tls.h"
#include "server/watcher.h"
#include "server/worker.h"

namespace latticed {

class StatusReport;

enum class EndReason { kAdmin, kDeviceLost };
using OnEnd = std::function<void(EndReason)>;

class Server {
 public:
  // Checks the repository, opens both ports, loads every model once, and
  // returns a server that answers. `config` has been validated. NOT_FOUND,
  // FAILED_PRECONDITION or PERMISSION_DENIED for the repository, UNAVAILABLE
  // for a port that is taken; FAILED_PRECONDITION for certificates and tokens,
  // also those for auditing peers.
  // `on_end`: the server should be drained, by whoever owns it; called once for
  // each reason at most.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const Config& config, SamplerFactory make_sampler, CouplingsOf couplings,
      const OnEnd& on_end = nullptr, RuntimeInfo runtime = {});
  ~Server();  // drains without waiting for calls

  int grpc_port() const { return grpc_port_; }
  int admin_port() const { return admin_port_; }  // 0: there is none
  int http_port() const { return http_->port(); }
  // Models with a live version.
  int models() const;
  const Metrics& metrics() const { return *context_->metrics; }

  // Ends service: health NOT_SERVING, no new calls, open streams end with a
  // resumable UNAVAILABLE at their next block boundary, then everything stops.
  // Takes at most lame_duck_seconds + drain_seconds and about two more.
  void Drain();

 private:
  Server() = default;

  absl::Status LoadCredentials();
  absl::Status Listen();
  absl::Status ListenAdmin(const OnEnd& on_end);
  absl::Status ListenHttp();
  void SetServing(const std::string& name, bool serving);
  void SetModelServing(const std::string& model, bool serving);
  void Housekeep();
  void RefreshCredentials();
  void StopHousekeeping();

  ContextRef context_;
  std::shared_ptr<Executor> executor_;
  std::shared_ptr<Graveyard> graveyard_;
  std::unique_ptr<Worker> worker_;
  std::shared_ptr<Lifecycle> lifecycle_;
  std::shared_ptr<Gatekeeper> gatekeeper_;
  std::unique_ptr<Watcher> watcher_;
  std::unique_ptr<StatusReport> status_;
  std::unique_ptr<Auditor> auditor_;  // null: no peers
  std::unique_ptr<SamplerServiceImpl> sampler_service_;
  std::unique_ptr<ChainServiceImpl> chain_service_;
  std::unique_ptr<ModelServiceImpl> model_service_;
  std::unique_ptr<MeasureServiceImpl> measure_service_;
  std::unique_ptr<AdminServiceImpl> admin_service_;
  std::shared_ptr<TlsCertificates> certificates_;  // null: plaintext
  std::shared_ptr<Authorizer> authorizer_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<grpc::Server> admin_grpc_;
  std::unique_ptr<HttpServer> http_;
  int grpc_port_ = 0;
  int admin_port_ = 0;
  std::atomic<bool> draining_{false};

  Mutex mutex_;
  CondVar wake_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread housekeeper_;  // stalled calls, figures of the status page
  // Looks at certificates and tokens. A thread of its own: files may be on a
  // mount that hangs.
  std::thread refresher_;
};

}  // namespace latticed
