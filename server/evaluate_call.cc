#include "server/evaluate_call.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/wire/block.h"
#include "core/wire/crc32c.h"
#include "server/codec.h"
#include "server/errors.h"

namespace latticed {

EvaluateCall::EvaluateCall(ContextRef context,
                           grpc::CallbackServerContext* grpc_context,
                           std::shared_ptr<std::atomic<int>> open)
    : context_(std::move(context)),
      grpc_context_(grpc_context),
      authorized_(
          context_->authorizer->Check(*grpc_context, Role::kSampler, &peer_)),
      open_(std::move(open)),
      record_(context_->metrics, {"SamplerService", "EvaluateLogProb"}) {
  ++*open_;
}

EvaluateCall* EvaluateCall::Launch(const std::shared_ptr<EvaluateCall>& call) {
  EvaluateCall* const raw = call.get();
  grpc::Status status;
  {
    MutexLock lock(raw->mutex_);
    raw->self_ = call;
    raw->since_ = std::chrono::steady_clock::now();
    status = raw->context_->calls->Add(call);
    if (!status.ok()) {
      raw->context_->metrics->Rejected("draining");
    } else if (!raw->authorized_.ok()) {
      status = raw->authorized_;
    } else if (*raw->open_ > kCallsMax) {
      raw->context_->metrics->Rejected("queue_full");
      status = Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL",
                     absl::StrCat("queue full: ", kCallsMax,
                                  " calls are sending configurations, the "
                                  "most this server takes; wait a second and "
                                  "try again"))
                   .RetryAfter(std::chrono::seconds(1));
    }
    if (!status.ok()) raw->EndLocked(status, "error");
  }
  if (status.ok()) {
    raw->StartRead(&raw->request_);
  } else {
    raw->Finish(status);
  }
  return raw;
}

grpc::Status EvaluateCall::Draining() {
  return Error(grpc::StatusCode::UNAVAILABLE, "DRAINING",
               "the server is stopping; send the configurations without an "
               "answer to another one, or to this one when it is back")
      .RetryAfter(std::chrono::seconds(1));
}

bool EvaluateCall::EndLocked(const grpc::Status& status, const char* reason) {
  if (doing_ == Doing::kFinished) return false;
  doing_ = Doing::kFinished;
  code_ = status.error_code();
  reason_ = reason;
  if (job_ != nullptr) job_->Cancel();
  return true;
}

grpc::Status EvaluateCall::Submit() {
  grpc::Status status;
  if (version_ == nullptr) {
    if (request_.model().policy() == v1::VERSION_POLICY_FOLLOW) {
      return InvalidField("model.policy",
                          "is FOLLOW, but log q of one call is of one flow: "
                          "use PINNED");
    }
    status = SelectVersion(*context_->store, request_.model(), &version_);
    if (!status.ok()) return status;
    // No stream: nothing is drawn.
    *response_.mutable_provenance() = MakeProvenance(*version_, StreamId(), 0);
    response_.mutable_provenance()->clear_stream_id();
  } else if (request_.has_model()) {
    return InvalidField("model",
                        "is set in a later message; a call has the model of "
                        "its first one");
  }
  const std::string& phi = request_.phi();
  const size_t bytes = static_cast<size_t>(version_->lattice.Sites()) * 4;
  if (phi.empty() || phi.size() % bytes != 0 ||
      phi.size() > static_cast<size_t>(kBlockBytesMax)) {
    return InvalidField(
        "phi", absl::StrCat("has ", phi.size(), " bytes; allowed are 1 to ",
                            static_cast<size_t>(kBlockBytesMax) / bytes,
                            " configurations of ", bytes, " bytes (float32 on ",
                            version_->lattice.Name(), ")"));
  }
  if (Crc32c(phi) != request_.crc32c()) {
    return InvalidField("crc32c",
                        "is not that of phi: it was damaged on its way; send "
                        "it again");
  }
  auto given = std::make_shared<std::vector<float>>(phi.size() / 4);
  FromBytes(phi, absl::MakeSpan(*given));
  for (size_t i = 0; i < given->size(); ++i) {
    if (std::isfinite((*given)[i])) continue;
    return InvalidField(
        "phi", absl::StrCat("is not finite at site ", i % (bytes / 4),
                            " of configuration ", i / (bytes / 4),
                            " of this message; log q is defined for finite "
                            "fields"));
  }
  request_.Clear();
  count_ = static_cast<int64_t>(given->size() * 4 / bytes);
  DrawRequest draws;
  draws.version = version_;
  draws.count = static_cast<uint64_t>(count_);
  draws.block_draws = count_;
  draws.phi = false;
  draws.given = std::move(given);
  draws.peer = peer_;
  draws.on_block = [weak = weak_from_this()] {
    if (const auto call = weak.lock()) call->Evaluated();
  };
  job_ = nullptr;  // leaves its place to the next
  status = context_->scheduler->Submit(std::move(draws), &job_);
  if (status.ok()) {
    doing_ = Doing::kEvaluating;
    since_ = std::chrono::steady_clock::now();
  }
  return status;
}

void EvaluateCall::OnReadDone(bool ok) {
  grpc::Status status;
  bool finish = false;
  {
    MutexLock lock(mutex_);
    if (doing_ == Doing::kFinished) return;
    const char* reason = "complete";
    // The end of a cancelled call's messages may be known before the cancel.
    if (cancelled_ || (!ok && grpc_context_->IsCancelled())) {
      status = grpc::Status(grpc::StatusCode::CANCELLED, "cancelled");
      reason = "client_cancel";
    } else if (ok) {
      status = draining_ ? Draining() : Submit();
      reason = draining_ ? "drain" : "error";
      if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
        context_->metrics->Rejected(draining_ ? "draining" : "no_live_version");
      }
    }
    // The client has sent everything, or this message was wrong.
    finish = (!ok || !status.ok()) && EndLocked(status, reason);
  }
  if (finish) Finish(status);
}

void EvaluateCall::Evaluated() {
  grpc::Status status;
  {
    MutexLock lock(mutex_);
    if (doing_ != Doing::kEvaluating) return;
    const std::unique_ptr<Block> block = job_->Pop();
    if (block == nullptr) {
      status = job_->Failure();
      if (status.ok()) return;
      EndLocked(status, "error");
    } else {
      const absl::string_view log_q = BytesOf(block->log_q());
      const absl::string_view action = BytesOf(block->action());
      response_.set_crc32c(BlockCrc32c(log_q, action, ""));
      response_.set_log_q(std::string(log_q));
      response_.set_action(std::string(action));
      doing_ = Doing::kWriting;
      since_ = std::chrono::steady_clock::now();
    }
  }
  if (status.ok()) {
    StartWrite(&response_);
  } else {
    Finish(status);
  }
}

void EvaluateCall::OnWriteDone(bool ok) {
  grpc::Status status;
  bool finish = false;
  {
    MutexLock lock(mutex_);
    if (doing_ == Doing::kFinished) return;
    if (ok) {
      context_->metrics->Delivered(version_->model, count_);
      context_->metrics->Sent(record_.rpc(),
                              static_cast<int64_t>(response_.ByteSizeLong()),
                              std::chrono::duration<double>(
                                  std::chrono::steady_clock::now() - since_)
                                  .count());
    } else {
      context_->metrics->Discarded(version_->model, count_);
    }
    response_.Clear();
    const char* reason = "drain";
    if (stalled_) {
      status = Error(grpc::StatusCode::DEADLINE_EXCEEDED, "STREAM_STALLED",
                     "the client did not read for too long");
      reason = "stalled";
    } else if (!ok || cancelled_) {
      status = grpc::Status(grpc::StatusCode::CANCELLED, "cancelled");
      reason = "client_cancel";
    } else if (draining_) {
      status = Draining();
    }
    if (status.ok()) {
      doing_ = Doing::kReading;
      since_ = std::chrono::steady_clock::now();
    } else {
      finish = EndLocked(status, reason);
    }
  }
  if (finish) {
    Finish(status);
  } else {
    StartRead(&request_);
  }
}

void EvaluateCall::OnCancel() {
  const grpc::Status status(grpc::StatusCode::CANCELLED, "cancelled");
  {
    MutexLock lock(mutex_);
    cancelled_ = true;
    // The write in flight comes back first.
    if (doing_ == Doing::kWriting) return;
    if (!EndLocked(status, "client_cancel")) return;
  }
  Finish(status);
}

void EvaluateCall::Drain() {
  {
    MutexLock lock(mutex_);
    draining_ = true;
    // A message at hand is answered first: it is soon done.
    if (doing_ != Doing::kReading || !EndLocked(Draining(), "drain")) return;
  }
  Finish(Draining());
}

void EvaluateCall::CheckStalled(SteadyTime now) {
  const std::chrono::duration<double> limit(context_->config.stall_seconds);
  const grpc::Status status =
      Error(grpc::StatusCode::DEADLINE_EXCEEDED, "STREAM_STALLED",
            "the client sent nothing for too long; open another call when "
            "there is something to evaluate");
  {
    MutexLock lock(mutex_);
    if (now - since_ < limit || doing_ == Doing::kFinished) return;
    if (doing_ == Doing::kWriting) {
      // Finish is not allowed with a write in flight; a cancel ends it.
      if (!stalled_) grpc_context_->TryCancel();
      stalled_ = true;
      return;
    }
    if (doing_ != Doing::kReading || !EndLocked(status, "stalled")) return;
  }
  Finish(status);
}

void EvaluateCall::OnDone() {
  std::shared_ptr<EvaluateCall> self;
  {
    MutexLock lock(mutex_);
    self = std::move(self_);
    record_.End(code_);
    context_->metrics->StreamEnded(reason_);
  }
  context_->calls->Remove(this);
}

}  // namespace latticed
