#include "client/retry.h"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/deadline.h"
#include "client/errors.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"

namespace latticed {
namespace {

// A call that waits for the channel to connect, and asks after the server's
// health when it has. Not WaitForStateChange, and no wait of gRPC's own between
// attempts: both end by its timers, which stand still for as long as the wall
// clock was set back.
class Probe {
 public:
  explicit Probe(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(channel) {
    grpc::experimental::ChannelResetConnectionBackoff(channel.get());
    context_.set_wait_for_ready(true);
    call_ = stub_.PrepareUnaryCall(&context_, "/grpc.health.v1.Health/Check",
                                   grpc::ByteBuffer(), &queue_);
    call_->StartCall();
    call_->Finish(&reply_, &status_, this);
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  ~Probe() {
    context_.TryCancel();
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  void Wait(absl::Duration step) {
    void* tag;
    bool ok;
    if (ended_) {
      absl::SleepFor(step);
    } else {
      ended_ = queue_.AsyncNext(&tag, &ok, In(step)) ==
               grpc::CompletionQueue::GOT_EVENT;
    }
  }

 private:
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> call_;
  grpc::ByteBuffer reply_;
  grpc::Status status_;
  bool ended_ = false;
};

}  // namespace

bool WaitUnless(absl::Duration duration, const std::atomic<bool>* cancelled,
                const std::shared_ptr<grpc::Channel>& channel) {
  const Stopwatch waited;
  std::optional<Probe> probe;
  if (channel != nullptr) probe.emplace(channel);
  while (true) {
    if (cancelled != nullptr && cancelled->load()) return false;
    const absl::Duration left = duration - waited.Elapsed();
    if (left <= absl::ZeroDuration()) return true;
    const absl::Duration step = std::min(left, absl::Milliseconds(20));
    if (probe.has_value()) {
      probe->Wait(step);
    } else {
      absl::SleepFor(step);
    }
  }
}

Retry::Retry(const RetryPolicy& policy, const std::atomic<bool>* cancelled,
             Notify notify, std::shared_ptr<grpc::Channel> channel)
    : policy_(policy),
      cancelled_(cancelled),
      notify_(std::move(notify)),
      channel_(std::move(channel)) {}

void Retry::Progress() {
  answered_ = true;
  failures_ = 0;
}

absl::Status Retry::Wait(const absl::Status& error) {
  if (cancelled_ != nullptr && cancelled_->load()) {
    return absl::CancelledError("interrupted");
  }
  if (!IsTransient(error)) return error;
  // A server that is full, starting or stopping, and says when to come back.
  if (RetryDelay(error).has_value()) answered_ = true;
  if (failures_++ == 0) {
    since_failure_ = Stopwatch();
    reason_.clear();
  }
  if (reason_.empty() || error.message() != kCannotConnect) {
    reason_ = std::string(error.message());
  }

  // 2^20 waits of `initial` are beyond any `max`; the cap avoids overflow.
  const absl::Duration full =
      std::min(policy_.max,
               policy_.initial * (int64_t{1} << std::min(failures_ - 1, 20)));
  // Jitter is about other clients, not about physics: no stream is spent on it.
  thread_local std::minstd_rand random{std::random_device{}()};
  absl::Duration wait =
      full * std::uniform_real_distribution<double>(0.5, 1)(random);
  if (const auto asked = RetryDelay(error)) wait = std::max(wait, *asked);

  const absl::Duration patience = answered_ ? policy_.outage : policy_.connect;
  const absl::Duration tried = since_failure_.Elapsed();
  if (tried + wait > patience) {
    return WithMessage(
        error, absl::StrCat(reason_, " (gave up after ", failures_,
                            failures_ == 1 ? " attempt" : " attempts", " in ",
                            absl::FormatDuration(
                                absl::Trunc(tried, absl::Milliseconds(1))),
                            ")"));
  }
  if (notify_) notify_(error, wait);
  if (!WaitUnless(wait, cancelled_, channel_)) {
    return absl::CancelledError("interrupted");
  }
  return absl::OkStatus();
}

}  // namespace latticed
