#include "server/sampler_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/codec.h"
#include "server/errors.h"
#include "server/evaluate_call.h"
#include "server/sample_stream.h"

namespace latticed {
namespace {

// One Sample call: a single block, copied into the reply.
class SampleCall final : public grpc::ServerUnaryReactor,
                         public OpenCall,
                         public std::enable_shared_from_this<SampleCall> {
 public:
  SampleCall(ContextRef context, grpc::CallbackServerContext* grpc_context,
             v1::SampleResponse* response)
      : context_(std::move(context)),
        authorized_(
            context_->authorizer->Check(*grpc_context, Role::kSampler, &peer_)),
        response_(response),
        record_(context_->metrics, {"SamplerService", "Sample"}) {}

  static SampleCall* Launch(const std::shared_ptr<SampleCall>& call,
                            const v1::SampleRequest& request) {
    SampleCall* const raw = call.get();
    grpc::Status status;
    {
      MutexLock lock(raw->mutex_);
      raw->self_ = call;
      status = raw->context_->calls->Add(call);
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
      if (!status.ok()) raw->End(status);
    }
    if (!status.ok()) raw->Finish(status);
    return raw;
  }

  // A reply of at most 2 MiB is as near a block boundary as any.
  void Drain() override {}
  void CheckStalled(SteadyTime) override {}

  void OnCancel() override {
    const grpc::Status status(grpc::StatusCode::CANCELLED, "cancelled");
    {
      MutexLock lock(mutex_);
      if (finished_) return;
      End(status);
    }
    Finish(status);
  }

  void OnDone() override {
    std::shared_ptr<SampleCall> self;
    {
      MutexLock lock(mutex_);
      self = std::move(self_);
      record_.End(code_);
      if (code_ == grpc::StatusCode::OK) {
        context_->metrics->Delivered(version_->model, draws_);
      }
    }
    context_->calls->Remove(this);
  }

 private:
  grpc::Status Begin(const v1::SampleRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    grpc::Status status = CheckSize(request.ByteSizeLong());
    if (!status.ok()) return status;
    status = SelectContent(request.content(), &content_);
    if (!status.ok()) return status;
    status = SelectVersion(*context_->store, request.model(), &version_);
    if (!status.ok()) return status;
    const int64_t count_max = ConfigurationsPerBlock(version_->lattice.Sites(),
                                                     content_, kBlockBytesMax);
    status = CheckRange("count", request.first_index(), request.count(),
                        static_cast<uint64_t>(count_max));
    if (!status.ok()) return status;
    status = CheckExpected(
        *version_,
        request.has_expected_action() ? &request.expected_action() : nullptr,
        request.has_expected_lattice() ? &request.expected_lattice() : nullptr,
        context_->couplings);
    if (!status.ok()) return status;
    status = SelectStream(request.has_stream(), request.stream(), &stream_);
    if (!status.ok()) return status;
    DrawRequest draws;
    draws.version = version_;
    draws.stream = stream_;
    draws.first_index = request.first_index();
    draws.count = request.count();
    draws.block_draws = static_cast<int64_t>(request.count());
    draws.phi = content_.phi;
    draws.peer = peer_;
    draws.on_block = [weak = weak_from_this()] {
      if (const auto call = weak.lock()) call->Reply();
    };
    return context_->scheduler->Submit(std::move(draws), &job_);
  }

  void Reply() {
    grpc::Status status;
    {
      MutexLock lock(mutex_);
      if (finished_) return;
      const std::unique_ptr<Block> block = job_->Pop();
      if (block == nullptr) {
        status = job_->Failure();
        if (status.ok()) return;
      } else {
        Encode(*block);
      }
      End(status);
    }
    Finish(status);
  }

  void Encode(const Block& block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const BlockFigures figures = Compact(block);
    Metrics& metrics = *context_->metrics;
    metrics.Weights(version_->model, version_->version, figures.sums);
    metrics.NonFinite(version_->model, "log_q", figures.non_finite_log_q);
    metrics.NonFinite(version_->model, "action", figures.non_finite_action);
    const Payloads payloads = PayloadsOf(block, figures.kept, content_);
    *response_->mutable_provenance() =
        MakeProvenance(*version_, stream_, block.first_index);
    *response_->mutable_summary() = MakeSummary(figures.sums);
    v1::SampleBlock* reply = response_->mutable_block();
    *reply = MakeSampleBlock(block, figures, payloads);
    reply->set_log_q(std::string(payloads.log_q));
    reply->set_action(std::string(payloads.action));
    reply->set_phi(std::string(payloads.phi));
    draws_ = block.count;
  }

  void End(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    finished_ = true;
    code_ = status.error_code();
    if (job_ != nullptr) job_->Cancel();
  }

  const ContextRef context_;
  std::string peer_;  // the principal; constant
  const grpc::Status authorized_;
  v1::SampleResponse* const response_;
  RpcRecord record_;

  Mutex mutex_;
  std::shared_ptr<SampleCall> self_ ABSL_GUARDED_BY(mutex_);
  VersionRef version_ ABSL_GUARDED_BY(mutex_);
  StreamId stream_ ABSL_GUARDED_BY(mutex_);
  BlockContent content_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<DrawJob> job_ ABSL_GUARDED_BY(mutex_);
  int64_t draws_ ABSL_GUARDED_BY(mutex_) = 0;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::StatusCode code_ ABSL_GUARDED_BY(mutex_) = grpc::StatusCode::UNKNOWN;
};

}  // namespace

grpc::ServerUnaryReactor* SamplerServiceImpl::Sample(
    grpc::CallbackServerContext* grpc_context, const v1::SampleRequest* request,
    v1::SampleResponse* response) {
  return SampleCall::Launch(
      std::make_shared<SampleCall>(context_, grpc_context, response), *request);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* SamplerServiceImpl::StreamSamples(
    grpc::CallbackServerContext* grpc_context,
    const grpc::ByteBuffer* request) {
  return StreamCall::Launch(
      std::make_shared<SampleStream>(context_, grpc_context), *request);
}

grpc::ServerBidiReactor<v1::EvaluateLogProbRequest,
                        v1::EvaluateLogProbResponse>*
SamplerServiceImpl::EvaluateLogProb(grpc::CallbackServerContext* grpc_context) {
  return EvaluateCall::Launch(
      std::make_shared<EvaluateCall>(context_, grpc_context, evaluating_));
}

}  // namespace latticed
