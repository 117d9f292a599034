// What calls that draw have in common: they can be drained, a stalled one is
// found, and each is counted once.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "grpcpp/grpcpp.h"
#include "grpcpp/support/server_callback.h"
#include "server/auth.h"
#include "server/config.h"
#include "server/executor.h"
#include "server/flow_store.h"
#include "server/metrics.h"
#include "server/mutex.h"
#include "server/requests.h"
#include "server/scheduler.h"

namespace latticed {

using SteadyTime = std::chrono::steady_clock::time_point;

class OpenCall {
 public:
  virtual ~OpenCall() = default;
  // Ends as soon as the message in flight is sent.
  virtual void Drain() = 0;
  // Ends if the message in flight has been so for too long.
  virtual void CheckStalled(SteadyTime now) = 0;
};

// Every open call. Thread-safe.
class CallRegistry {
 public:
  // Not OK once draining: UNAVAILABLE DRAINING.
  grpc::Status Add(std::shared_ptr<OpenCall> call);
  void Remove(const OpenCall* call);
  // Refuses new calls and drains the open ones.
  void Drain();
  void CheckStalled(SteadyTime now);
  // True when no call is left.
  bool WaitEmpty(std::chrono::milliseconds timeout);

 private:
  std::vector<std::shared_ptr<OpenCall>> Snapshot();

  Mutex mutex_;
  CondVar removed_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<const OpenCall*, std::shared_ptr<OpenCall>> calls_
      ABSL_GUARDED_BY(mutex_);
};

// What handlers work with; one for the process.
struct ServiceContext {
  Config config;
  CouplingsOf couplings;
  std::string token_key;
  std::shared_ptr<FlowStore> store;
  std::shared_ptr<Scheduler> scheduler;
  std::shared_ptr<Executor> executor;
  std::shared_ptr<Metrics> metrics;
  std::shared_ptr<CallRegistry> calls;
  std::shared_ptr<const Authorizer> authorizer;
};
using ContextRef = std::shared_ptr<const ServiceContext>;

// Counts one call from its start to End.
class RpcRecord {
 public:
  RpcRecord(std::shared_ptr<Metrics> metrics, RpcName rpc)
      : metrics_(std::move(metrics)),
        rpc_(rpc),
        start_(std::chrono::steady_clock::now()) {
    metrics_->RpcStarted(rpc_);
  }
  const RpcName& rpc() const { return rpc_; }
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                         start_)
        .count();
  }
  void End(grpc::StatusCode code) { metrics_->RpcEnded(rpc_, code, Seconds()); }

 private:
  const std::shared_ptr<Metrics> metrics_;
  const RpcName rpc_;
  const SteadyTime start_;
};

// A server stream of encoded messages, one write in flight.
//
// A subclass produces messages from its draws; this class writes them, ends the
// stream, and follows gRPC's rules: every call is finished exactly once, also
// after a cancel, and never with a write in flight. Reactions only change state
// and start the next operation, outside the lock.
class StreamCall : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                   public OpenCall,
                   public std::enable_shared_from_this<StreamCall> {
 public:
  StreamCall(ContextRef context, grpc::CallbackServerContext* grpc_context,
             RpcName rpc);

  // Takes the request and starts. The call owns itself from here on, until
  // gRPC is done with it.
  static StreamCall* Launch(const std::shared_ptr<StreamCall>& call,
                            const grpc::ByteBuffer& request);

  void Drain() final;
  void CheckStalled(SteadyTime now) final;
  void OnWriteDone(bool ok) final;
  void OnCancel() final;
  void OnDone() final;

 protected:
  struct Outgoing {
    grpc::ByteBuffer message;
    std::string model;
    int64_t draws = 0;  // that the message delivers
    // Counts as drawn and not yet sent until the message is out, also where the
    // message has copies.
    std::shared_ptr<BlockMemory> memory;
    uint64_t next_index = 0;  // where a client that has it goes on
  };

  // Checks the request and submits its draws; an error ends the call.
  virtual grpc::Status Begin(const grpc::ByteBuffer& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Appends to outbox_ or sets end_. False if nothing is ready.
  virtual bool Produce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // How a client that has every message up to `next_index` goes on elsewhere.
  virtual grpc::Status DrainStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;

  // Drops what has not been drawn.
  virtual void CancelDraws() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (job_ != nullptr) job_->Cancel();
  }

  // Nothing more will be produced.
  bool Ending() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return broken_ || draining_ || finished_;
  }
  // Produces what is ready, then writes or finishes.
  void Advance() ABSL_LOCKS_EXCLUDED(mutex_);
  // For DrawRequest::on_block.
  std::function<void()> AdvanceLater();

  const ContextRef context_;
  std::string peer_;               // the principal; constant
  const grpc::Status authorized_;  // checked before Begin

  Mutex mutex_;
  std::unique_ptr<DrawJob> job_ ABSL_GUARDED_BY(mutex_);
  std::deque<Outgoing> outbox_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_index_ ABSL_GUARDED_BY(mutex_) = 0;  // after what was sent

 private:
  // Encoded ahead of the write in flight.
  static constexpr size_t kOutboxMax = 2;

  void Discard(const Outgoing& unsent);

  grpc::CallbackServerContext* const grpc_context_;
  RpcRecord record_;

  // Set in Launch, cleared in OnDone.
  std::shared_ptr<StreamCall> self_ ABSL_GUARDED_BY(mutex_);
  Outgoing in_flight_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool any_sent_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // the client is gone
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::StatusCode code_ ABSL_GUARDED_BY(mutex_) = grpc::StatusCode::UNKNOWN;
  const char* reason_ ABSL_GUARDED_BY(mutex_) = "error";
  SteadyTime write_started_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
