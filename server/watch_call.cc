#include "server/watch_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"

namespace latticed {
namespace {

std::atomic<int> watches{0};

}  // namespace

v1::ModelVersion Describe(const VersionRecord& record) {
  v1::ModelVersion version;
  version.set_model(record.model);
  version.set_version(record.version);
  version.set_digest(record.digest);
  version.set_state(record.state);
  version.set_reason(record.reason);
  if (record.manifest != nullptr) {
    *version.mutable_manifest() = *record.manifest;
  }
  if (record.state == v1::VERSION_STATE_GATING ||
      record.state == v1::VERSION_STATE_LIVE ||
      record.state == v1::VERSION_STATE_PREVIOUS) {
    version.set_numerics_mode(record.numerics_mode);
  }
  if (record.gate != nullptr) *version.mutable_gate() = *record.gate;
  return version;
}

WatchCall::WatchCall(ContextRef context,
                     grpc::CallbackServerContext* grpc_context,
                     std::string model)
    : context_(std::move(context)),
      grpc_context_(grpc_context),
      model_(std::move(model)),
      record_(context_->metrics, {"ModelService", "WatchModelVersions"}) {}

WatchCall* WatchCall::Launch(const ContextRef& context,
                             grpc::CallbackServerContext* grpc_context,
                             const std::string& model, grpc::Status status) {
  const auto call = std::make_shared<WatchCall>(context, grpc_context, model);
  if (status.ok()) status = context->calls->Add(call);
  if (++watches > kWatchesMax && status.ok()) {
    context->metrics->Rejected("queue_full");
    status = Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL",
                   absl::StrCat("this server has ", kWatchesMax,
                                " watches already; share one, or ask "
                                "GetModelVersion from time to time"))
                 .RetryAfter(std::chrono::seconds(10));
  }
  // Before the first look, so that no change falls between the two.
  call->listening_ = context->store->Listen([weak = call->weak_from_this()] {
    if (const auto alive = weak.lock()) alive->Advance();
  });
  {
    MutexLock lock(call->mutex_);
    call->self_ = call;
    call->refused_ = std::move(status);
  }
  call->Advance();
  return call.get();
}

void WatchCall::Advance() {
  enum { kNothing, kWrite, kFinish } next = kNothing;
  grpc::Status status;
  {
    MutexLock lock(mutex_);
    if (finished_ || writing_) return;
    if (!refused_.ok()) {
      next = kFinish;
      status = refused_;
    } else if (broken_) {
      next = kFinish;
      status = Error(grpc::StatusCode::CANCELLED, "CANCELLED",
                     "the client cancelled, left, or its deadline passed");
      reason_ = "client_cancel";
    } else if (draining_) {
      next = kFinish;
      status = Error(grpc::StatusCode::UNAVAILABLE, "DRAINING",
                     "the server is stopping; watch another one");
      reason_ = "drain";
    } else {
      const auto changed = context_->store->ChangedSince(model_, seen_);
      if (!changed.empty()) {
        next = kWrite;
        seen_ = changed.front().change;
        *response_.mutable_version() = Describe(changed.front());
        writing_ = true;
        write_started_ = std::chrono::steady_clock::now();
      }
    }
    if (next == kFinish) {
      finished_ = true;
      code_ = status.error_code();
    }
  }
  if (next == kWrite) StartWrite(&response_);
  if (next == kFinish) Finish(status);
}

void WatchCall::OnWriteDone(bool ok) {
  {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) broken_ = true;
  }
  Advance();
}

void WatchCall::OnCancel() {
  {
    MutexLock lock(mutex_);
    broken_ = true;
  }
  Advance();
}

void WatchCall::Drain() {
  {
    MutexLock lock(mutex_);
    draining_ = true;
  }
  Advance();
}

void WatchCall::CheckStalled(SteadyTime now) {
  const std::chrono::duration<double> limit(context_->config.stall_seconds);
  MutexLock lock(mutex_);
  if (!writing_ || broken_ || now - write_started_ < limit) return;
  broken_ = true;
  grpc_context_->TryCancel();
}

void WatchCall::OnDone() {
  std::shared_ptr<WatchCall> self;
  {
    MutexLock lock(mutex_);
    self = std::move(self_);
    listening_ = nullptr;
    record_.End(code_);
    context_->metrics->StreamEnded(reason_);
  }
  --watches;
  context_->calls->Remove(this);
}

}  // namespace latticed
