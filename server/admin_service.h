// AdminService: for operators, on the admin listener.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "latticed/v1/admin.grpc.pb.h"
#include "server/call.h"
#include "server/lifecycle.h"
#include "server/mutex.h"

namespace latticed {

// What the service needs done elsewhere.
struct AdminActions {
  std::function<void()> drain;
  // Runs on the thread that reads the repository; false if it has too much to
  // do.
  std::function<bool(std::function<void()>)> post;
  // On that thread only.
  std::function<absl::Status()> poll;
  std::function<absl::StatusOr<VersionRef>(const std::string& model,
                                           const std::string& digest)>
      load;
};

// What mutations with a request_id came to, so that one that is sent again is
// answered again and not done again. Thread-safe.
class RequestMemory {
 public:
  static constexpr size_t kRequestsMax = 1024;

  struct Outcome {
    grpc::Status status;
    v1::ModelVersion version;
  };
  // Null if it is new, or `id` is empty.
  std::shared_ptr<const Outcome> Find(const std::string& method,
                                      const std::string& id) const;
  void Put(const std::string& method, const std::string& id, Outcome outcome);

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<const Outcome>> outcomes_
      ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> order_ ABSL_GUARDED_BY(mutex_);
};

class AdminServiceImpl final : public v1::AdminService::CallbackService {
 public:
  AdminServiceImpl(ContextRef context, std::shared_ptr<Lifecycle> lifecycle,
                   AdminActions actions)
      : context_(std::move(context)),
        lifecycle_(std::move(lifecycle)),
        actions_(std::move(actions)),
        started_(std::chrono::steady_clock::now()) {}

  // Looks at the repository now. Answers after the look; a version that it
  // found may then still be at the gate.
  grpc::ServerUnaryReactor* RefreshModel(
      grpc::CallbackServerContext* grpc_context,
      const v1::RefreshModelRequest* request,
      v1::RefreshModelResponse* response) override;
  // Live without asking the gate.
  grpc::ServerUnaryReactor* PromoteModelVersion(
      grpc::CallbackServerContext* grpc_context,
      const v1::PromoteModelVersionRequest* request,
      v1::PromoteModelVersionResponse* response) override;
  // The previous version serves again, the live one is quarantined.
  grpc::ServerUnaryReactor* RollbackModel(
      grpc::CallbackServerContext* grpc_context,
      const v1::RollbackModelRequest* request,
      v1::RollbackModelResponse* response) override;
  grpc::ServerUnaryReactor* QuarantineModelVersion(
      grpc::CallbackServerContext* grpc_context,
      const v1::QuarantineModelVersionRequest* request,
      v1::QuarantineModelVersionResponse* response) override;
  grpc::ServerUnaryReactor* UnquarantineModelVersion(
      grpc::CallbackServerContext* grpc_context,
      const v1::UnquarantineModelVersionRequest* request,
      v1::UnquarantineModelVersionResponse* response) override;
  // Answers, then the server drains. Asked again it only answers.
  grpc::ServerUnaryReactor* DrainServer(
      grpc::CallbackServerContext* grpc_context,
      const v1::DrainServerRequest* request,
      v1::DrainServerResponse* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(
      grpc::CallbackServerContext* grpc_context,
      const v1::GetServerInfoRequest* request,
      v1::GetServerInfoResponse* response) override;

 private:
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Mutate(
      grpc::CallbackServerContext* grpc_context, const char* method,
      const Request& request, Response* response, const grpc::Status& fields,
      const std::function<void(std::function<void(RequestMemory::Outcome)>)>&
          act);
  static grpc::Status Busy();

  const ContextRef context_;
  const std::shared_ptr<Lifecycle> lifecycle_;
  const AdminActions actions_;
  const SteadyTime started_;
  std::atomic<bool> drain_asked_{false};
  RequestMemory memory_;
};

}  // namespace latticed
