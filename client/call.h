// One server-streaming call, read message by message.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/deadline.h"
#include "client/errors.h"
#include "client/stopwatch.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/support/async_stream.h"

namespace latticed {

// The next message is received while the caller works on the last one; no
// further ones, so a slow caller slows the server down. An own completion queue
// lets one thread notice a cancellation and a silent server, which the blocking
// reader cannot. Not thread-safe.
template <typename Response>
class MessageStream {
 public:
  using Reader = grpc::ClientAsyncReader<Response>;
  using Start = std::function<std::unique_ptr<Reader>(
      grpc::ClientContext*, grpc::CompletionQueue*, void* tag)>;

  // `silence_max`: a stream without a message for so long counts as broken.
  MessageStream(const Start& start, absl::Duration silence_max,
                const std::atomic<bool>* cancelled)
      : silence_max_(silence_max), cancelled_(cancelled) {
    reader_ = start(&context_, &queue_, this);
    if (WaitForEvent()) {
      reader_->Read(&next_, this);
    } else {
      ended_ = true;
    }
  }

  MessageStream(const MessageStream&) = delete;
  MessageStream& operator=(const MessageStream&) = delete;

  // Leaving early cancels the call.
  ~MessageStream() {
    if (!finished_) {
      context_.TryCancel();
      (void)Finish();
    }
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  // False when the stream has ended: Finish says why.
  bool Read(Response* response) {
    if (ended_) return false;
    if (!WaitForEvent()) {
      ended_ = true;
      return false;
    }
    response->Swap(&next_);
    next_.Clear();
    reader_->Read(&next_, this);
    return true;
  }

  absl::Status Finish() {
    if (finished_) return status_;
    while (!ended_) {  // what is still on its way
      if (WaitForEvent()) {
        reader_->Read(&next_, this);
      } else {
        ended_ = true;
      }
    }
    grpc::Status status;
    reader_->Finish(&status, this);
    WaitForEvent();
    finished_ = true;
    status_ = FromGrpc(status);
    if (absl::IsCancelled(status_) &&
        (cancelled_ == nullptr || !cancelled_->load())) {
      // Not by us: a server that is shut down cancels what is running.
      status_ = absl::UnavailableError("the server cancelled the call");
    }
    if (silent_) {
      status_ = absl::UnavailableError(absl::StrCat(
          "the server sent nothing for ", absl::FormatDuration(silence_max_)));
    }
    return status_;
  }

 private:
  bool WaitForEvent() {
    const Stopwatch waited;
    while (true) {
      void* tag = nullptr;
      bool ok = false;
      const auto event =
          queue_.AsyncNext(&tag, &ok, In(absl::Milliseconds(50)));
      if (event == grpc::CompletionQueue::GOT_EVENT) return ok;
      if (cancelled_ != nullptr && cancelled_->load()) context_.TryCancel();
      if (waited.Elapsed() > silence_max_) {
        silent_ = true;
        context_.TryCancel();
      }
    }
  }

  const absl::Duration silence_max_;
  const std::atomic<bool>* const cancelled_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<Reader> reader_;
  Response next_;
  bool ended_ = false;     // no read is outstanding
  bool finished_ = false;  // status_ is final
  bool silent_ = false;
  absl::Status status_;
};

}  // namespace latticed
