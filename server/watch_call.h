// One WatchModelVersions call: the state of every version, then each change. A
// client that reads slowly misses intermediate states, never the last one, and
// costs one message.
#pragma once

#include <memory>
#include <string>

#include "grpcpp/support/server_callback.h"
#include "latticed/v1/model.pb.h"
#include "server/call.h"

namespace latticed {

// A version as clients see it.
v1::ModelVersion Describe(const VersionRecord& record);

class WatchCall final
    : public grpc::ServerWriteReactor<v1::WatchModelVersionsResponse>,
      public OpenCall,
      public std::enable_shared_from_this<WatchCall> {
 public:
  // Watches at one time; RESOURCE_EXHAUSTED beyond.
  static constexpr int kWatchesMax = 256;

  // `status`: not OK ends the call with it.
  static WatchCall* Launch(const ContextRef& context,
                           grpc::CallbackServerContext* grpc_context,
                           const std::string& model, grpc::Status status);

  WatchCall(ContextRef context, grpc::CallbackServerContext* grpc_context,
            std::string model);

  void Drain() override;
  void CheckStalled(SteadyTime now) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void Advance() ABSL_LOCKS_EXCLUDED(mutex_);

  const ContextRef context_;
  grpc::CallbackServerContext* const grpc_context_;
  const std::string model_;  // "": every model
  RpcRecord record_;
  std::shared_ptr<void> listening_;

  Mutex mutex_;
  std::shared_ptr<WatchCall> self_ ABSL_GUARDED_BY(mutex_);
  v1::WatchModelVersionsResponse response_ ABSL_GUARDED_BY(mutex_);
  uint64_t seen_ ABSL_GUARDED_BY(mutex_) = 0;
  grpc::Status refused_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::StatusCode code_ ABSL_GUARDED_BY(mutex_) = grpc::StatusCode::UNKNOWN;
  const char* reason_ ABSL_GUARDED_BY(mutex_) = "error";
  SteadyTime write_started_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
