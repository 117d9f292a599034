#include "server/call.h"

#include <utility>
#include <vector>

#include "server/errors.h"

namespace latticed {

grpc::Status CallRegistry::Add(std::shared_ptr<OpenCall> call) {
  MutexLock lock(mutex_);
  if (draining_) {
    return Error(grpc::StatusCode::UNAVAILABLE, "DRAINING",
                 "the server is stopping and takes no new calls; try another "
                 "one, or this one when it is back");
  }
  const OpenCall* key = call.get();
  calls_.emplace(key, std::move(call));
  return grpc::Status::OK;
}

void CallRegistry::Remove(const OpenCall* call) {
  MutexLock lock(mutex_);
  calls_.erase(call);
  removed_.NotifyAll();
}

std::vector<std::shared_ptr<OpenCall>> CallRegistry::Snapshot() {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<OpenCall>> calls;
  for (const auto& [key, call] : calls_) calls.push_back(call);
  return calls;
}

void CallRegistry::Drain() {
  {
    MutexLock lock(mutex_);
    draining_ = true;
  }
  for (const auto& call : Snapshot()) call->Drain();
}

void CallRegistry::CheckStalled(SteadyTime now) {
  for (const auto& call : Snapshot()) call->CheckStalled(now);
}

bool CallRegistry::WaitEmpty(std::chrono::milliseconds timeout) {
  const auto due = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(mutex_);
  while (!calls_.empty()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        due - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    removed_.WaitFor(mutex_, left);
  }
  return true;
}

StreamCall::StreamCall(ContextRef context,
                       grpc::CallbackServerContext* grpc_context, RpcName rpc)
    : context_(std::move(context)),
      authorized_(
          context_->authorizer->Check(*grpc_context, Role::kSampler, &peer_)),
      grpc_context_(grpc_context),
      record_(context_->metrics, rpc) {}

StreamCall* StreamCall::Launch(const std::shared_ptr<StreamCall>& call,
                               const grpc::ByteBuffer& request) {
  StreamCall* const raw = call.get();
  {
    MutexLock lock(raw->mutex_);
    raw->self_ = call;
    grpc::Status status = raw->context_->calls->Add(call);
    if (!status.ok()) {
      raw->context_->metrics->Rejected("draining");
    } else if (!raw->authorized_.ok()) {
      status = raw->authorized_;
    } else {
      status = raw->Begin(request);
      if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
        raw->context_->metrics->Rejected("no_live_version");
      }
    }
    if (!status.ok()) {
      raw->outbox_.clear();
      raw->end_ = std::move(status);
    }
  }
  raw->Advance();
  return raw;
}

std::function<void()> StreamCall::AdvanceLater() {
  return [weak = weak_from_this()] {
    if (const auto call = weak.lock()) call->Advance();
  };
}

void StreamCall::Advance() {
  enum { kNothing, kWrite, kFinish } next = kNothing;
  grpc::Status status;
  {
    MutexLock lock(mutex_);
    while (!Ending() && !end_ && outbox_.size() < kOutboxMax && Produce()) {
    }
    if (finished_ || writing_) return;
    if (broken_) {
      next = kFinish;
      status = stalled_ ? Error(grpc::StatusCode::DEADLINE_EXCEEDED,
                                "STREAM_STALLED",
                                "the client did not read for too long")
                        : Error(grpc::StatusCode::CANCELLED, "CANCELLED",
                                "the client cancelled, left, or its deadline "
                                "passed");
      reason_ = stalled_ ? "stalled" : "client_cancel";
    } else if (draining_ && !(end_ && outbox_.empty())) {
      next = kFinish;
      status = DrainStatus();
      reason_ = "drain";
    } else if (!outbox_.empty()) {
      next = kWrite;
      in_flight_ = std::move(outbox_.front());
      outbox_.pop_front();
      writing_ = true;
      write_started_ = std::chrono::steady_clock::now();
    } else if (end_) {
      next = kFinish;
      status = *end_;
      reason_ = status.ok() ? "complete" : "error";
    }
    if (next == kFinish) {
      finished_ = true;
      code_ = status.error_code();
      for (const Outgoing& unsent : outbox_) Discard(unsent);
      outbox_.clear();
      CancelDraws();
    }
  }
  // Nobody else writes or finishes now, so the call outlives these.
  if (next == kWrite) StartWrite(&in_flight_.message);
  if (next == kFinish) Finish(status);
}

void StreamCall::Discard(const Outgoing& unsent) {
  if (unsent.draws > 0) {
    context_->metrics->Discarded(unsent.model, unsent.draws);
  }
}

void StreamCall::OnWriteDone(bool ok) {
  {
    MutexLock lock(mutex_);
    writing_ = false;
    const double wait = std::chrono::duration<double>(
                            std::chrono::steady_clock::now() - write_started_)
                            .count();
    if (ok) {
      context_->metrics->Sent(record_.rpc(),
                              static_cast<int64_t>(in_flight_.message.Length()),
                              wait);
      if (!any_sent_) {
        context_->metrics->FirstMessage(record_.rpc(), record_.Seconds());
      }
      any_sent_ = true;
      if (in_flight_.draws > 0) {
        context_->metrics->Delivered(in_flight_.model, in_flight_.draws);
        next_index_ = in_flight_.next_index;
      }
    } else {
      broken_ = true;
      Discard(in_flight_);
    }
    in_flight_ = Outgoing();
  }
  Advance();
}

void StreamCall::OnCancel() {
  {
    MutexLock lock(mutex_);
    broken_ = true;
    CancelDraws();
  }
  Advance();
}

void StreamCall::Drain() {
  {
    MutexLock lock(mutex_);
    draining_ = true;
    if (!end_) CancelDraws();
  }
  Advance();
}

void StreamCall::CheckStalled(SteadyTime now) {
  const std::chrono::duration<double> limit(context_->config.stall_seconds);
  MutexLock lock(mutex_);
  if (!writing_ || done_ || stalled_ || now - write_started_ < limit) return;
  // Finish is not allowed with a write in flight; a cancel ends the write.
  stalled_ = true;
  grpc_context_->TryCancel();
}

void StreamCall::OnDone() {
  std::shared_ptr<StreamCall> self;
  {
    MutexLock lock(mutex_);
    done_ = true;
    self = std::move(self_);
    record_.End(code_);
    context_->metrics->StreamEnded(reason_);
  }
  context_->calls->Remove(this);
}

}  // namespace latticed
