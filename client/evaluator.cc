#include "client/evaluator.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/deadline.h"
#include "client/errors.h"
#include "client/stopwatch.h"
#include "core/wire/block.h"
#include "core/wire/crc32c.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/support/async_stream.h"

namespace latticed {

// One call, one operation at a time; as MessageStream, it notices a
// cancellation and a silent server.
class Evaluator::Call {
 public:
  explicit Call(const Session& session) : session_(session) {
    session.Prepare(&context_);
    stream_ = session.sampler->AsyncEvaluateLogProb(&context_, &queue_, this);
    ok_ = Wait();
  }
  ~Call() {
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
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // False once the call is over: Finish says why.
  bool Exchange(const v1::EvaluateLogProbRequest& request,
                v1::EvaluateLogProbResponse* response) {
    if (!ok_) return false;
    stream_->Write(request, this);
    ok_ = Wait();
    if (!ok_) return false;
    stream_->Read(response, this);
    ok_ = Wait();
    return ok_;
  }
  absl::Status Finish() {
    grpc::Status status;
    stream_->Finish(&status, this);
    Wait();
    finished_ = true;
    absl::Status result = FromGrpc(status);
    const std::atomic<bool>* cancelled = session_.options.cancelled;
    if (absl::IsCancelled(result) &&
        (cancelled == nullptr || !cancelled->load())) {
      result = absl::UnavailableError(
          silent_ ? "the server did not answer for too long"
                  : "the server cancelled the call");
    }
    return result;
  }

 private:
  bool Wait() {
    const Stopwatch waited;
    const std::atomic<bool>* cancelled = session_.options.cancelled;
    while (true) {
      void* tag = nullptr;
      bool ok = false;
      if (queue_.AsyncNext(&tag, &ok, In(absl::Milliseconds(50))) ==
          grpc::CompletionQueue::GOT_EVENT) {
        return ok;
      }
      if (cancelled != nullptr && cancelled->load()) context_.TryCancel();
      if (waited.Elapsed() > session_.options.silence_max) {
        silent_ = true;
        context_.TryCancel();
      }
    }
  }

  const Session& session_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::EvaluateLogProbRequest,
                                                v1::EvaluateLogProbResponse>>
      stream_;
  bool ok_ = false;
  bool finished_ = false;
  bool silent_ = false;
};

Evaluator::Evaluator(std::shared_ptr<const Session> session,
                     const v1::ModelSelector& model)
    : session_(std::move(session)),
      model_(model),
      retry_(session_->NewRetry()) {}

Evaluator::~Evaluator() = default;

absl::Status Evaluator::Evaluate(absl::Span<const float> phi,
                                 std::vector<double>* log_q,
                                 std::vector<double>* action) {
  while (true) {
    absl::Status error = Attempt(phi, log_q, action);
    if (error.ok()) {
      retry_.Progress();
      return error;
    }
    call_.reset();
    if (absl::Status s = retry_.Wait(error); !s.ok()) {
      return session_->Explain(s);
    }
    if (begun_) ++resumes_;
  }
}

absl::Status Evaluator::Attempt(absl::Span<const float> phi,
                                std::vector<double>* log_q,
                                std::vector<double>* action) {
  v1::EvaluateLogProbRequest request;
  request.set_phi(std::string(BytesOf(phi)));
  request.set_crc32c(Crc32c(request.phi()));
  if (call_ == nullptr) {
    call_ = std::make_unique<Call>(*session_);
    *request.mutable_model() = model_;
  }
  v1::EvaluateLogProbResponse response;
  if (!call_->Exchange(request, &response)) {
    absl::Status error = call_->Finish();
    if (!error.ok()) return error;
    return absl::InternalError("the server ended the call without an answer");
  }
  retry_.Answered();
  if (response.has_provenance()) {
    const v1::Provenance& is = response.provenance();
    if (begun_ && (is.digest() != provenance_.digest() ||
                   is.numerics_mode() != provenance_.numerics_mode())) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the server that continues has digest ", is.digest().substr(0, 12),
          " in mode '", is.numerics_mode(), "', the values so far are of ",
          provenance_.digest().substr(0, 12), " in mode '",
          provenance_.numerics_mode(), "'"));
    }
    provenance_ = is;
    begun_ = true;
    model_.set_digest(is.digest());
  } else if (!begun_) {
    return absl::InternalError("the server answered without a provenance");
  }
  if (BlockCrc32c(response.log_q(), response.action(), "") !=
      response.crc32c()) {
    // Damaged on its way: the same values can be had again.
    const absl::Status damaged =
        absl::DataLossError("an answer arrived damaged");
    return ++damaged_ < session_->options.retry.damaged_max
               ? absl::UnavailableError(damaged.message())
               : damaged;
  }
  damaged_ = 0;
  size_t sites = 1;
  for (const uint32_t extent : provenance_.lattice().extent()) sites *= extent;
  log_q->resize(phi.size() / sites);
  action->resize(phi.size() / sites);
  if (!FromBytes(response.log_q(), absl::MakeSpan(*log_q)) ||
      !FromBytes(response.action(), absl::MakeSpan(*action))) {
    return absl::InternalError(
        "the server answered with another number of values than asked for");
  }
  return absl::OkStatus();
}

}  // namespace latticed
