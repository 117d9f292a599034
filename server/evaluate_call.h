// One EvaluateLogProb call: configurations in, log q and S out, one message at
// a time.
#pragma once

#include <atomic>
#include <memory>

#include "latticed/v1/sampler.pb.h"
#include "server/call.h"

namespace latticed {

// As StreamCall is for streams of the server's: finished exactly once, also
// after a cancel, and never with a write in flight.
class EvaluateCall final
    : public grpc::ServerBidiReactor<v1::EvaluateLogProbRequest,
                                     v1::EvaluateLogProbResponse>,
      public OpenCall,
      public std::enable_shared_from_this<EvaluateCall> {
 public:
  // Each may hold a message of 2 MiB three times over: as received, as numbers
  // and in the worker's hands.
  static constexpr int kCallsMax = 64;

  // `open` counts the calls of the service and outlives none of them.
  EvaluateCall(ContextRef context, grpc::CallbackServerContext* grpc_context,
               std::shared_ptr<std::atomic<int>> open);
  ~EvaluateCall() override { --*open_; }

  // The call owns itself until gRPC is done with it.
  static EvaluateCall* Launch(const std::shared_ptr<EvaluateCall>& call);

  void Drain() override;
  void CheckStalled(SteadyTime now) override;
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum class Doing { kReading, kEvaluating, kWriting, kFinished };

  // Checks `request_` and submits it.
  grpc::Status Submit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Evaluated() ABSL_LOCKS_EXCLUDED(mutex_);
  // True: the caller must call Finish(status), without the lock.
  bool EndLocked(const grpc::Status& status, const char* reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static grpc::Status Draining();

  const ContextRef context_;
  grpc::CallbackServerContext* const grpc_context_;
  std::string peer_;  // the principal; constant
  const grpc::Status authorized_;
  const std::shared_ptr<std::atomic<int>> open_;
  RpcRecord record_;

  // Belong to gRPC while reading and writing.
  v1::EvaluateLogProbRequest request_;
  v1::EvaluateLogProbResponse response_;

  Mutex mutex_;
  std::shared_ptr<EvaluateCall> self_ ABSL_GUARDED_BY(mutex_);
  Doing doing_ ABSL_GUARDED_BY(mutex_) = Doing::kReading;
  SteadyTime since_ ABSL_GUARDED_BY(mutex_);
  VersionRef version_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<DrawJob> job_ ABSL_GUARDED_BY(mutex_);
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;  // of the message at hand
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::StatusCode code_ ABSL_GUARDED_BY(mutex_) = grpc::StatusCode::UNKNOWN;
  const char* reason_ ABSL_GUARDED_BY(mutex_) = "error";
};

}  // namespace latticed
