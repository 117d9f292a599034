#include "server/sample_stream.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "latticed/v1/sampler.pb.h"
#include "server/errors.h"

namespace latticed {

grpc::Status SampleStream::Begin(const grpc::ByteBuffer& bytes) {
  v1::StreamSamplesRequest request;
  grpc::Status status = Decode(bytes, &request);
  if (!status.ok()) return status;
  status =
      CheckRange("count", request.first_index(), request.count(), kCountMax);
  if (!status.ok()) return status;
  status = SelectContent(request.content(), &content_);
  if (!status.ok()) return status;
  status = SelectVersion(*context_->store, request.model(), &version_);
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
  draws.block_draws =
      BlockDraws(*version_, content_, request.block_bytes_max());
  draws.phi = content_.phi;
  draws.peer = peer_;
  draws.on_block = AdvanceLater();
  if (request.model().policy() == v1::VERSION_POLICY_FOLLOW) {
    draws.follow = [store = context_->store, model = version_->model] {
      return store->Live(model);
    };
  }
  status = context_->scheduler->Submit(std::move(draws), &job_);
  if (!status.ok()) return status;

  next_index_ = request.first_index();
  v1::StreamSamplesResponse header;
  *header.mutable_header() =
      MakeProvenance(*version_, stream_, request.first_index());
  outbox_.push_back({.message = Encode(header)});
  return status;
}

bool SampleStream::Produce() {
  const std::unique_ptr<Block> block = job_->Pop();
  if (block == nullptr) {
    if (job_->Done()) {
      v1::StreamSamplesResponse summary;
      *summary.mutable_summary() = MakeSummary(sums_);
      outbox_.push_back({.message = Encode(summary)});
      end_ = grpc::Status::OK;
      return true;
    }
    const grpc::Status failure = job_->Failure();
    if (!failure.ok()) end_ = failure;
    return false;
  }
  if (block->version != version_) {
    version_ = block->version;
    v1::StreamSamplesResponse change;
    *change.mutable_change()->mutable_provenance() =
        MakeProvenance(*version_, stream_, block->first_index);
    outbox_.push_back({.message = Encode(change)});
  }
  const BlockFigures figures = Compact(*block);
  sums_.Merge(figures.sums);
  context_->metrics->Weights(version_->model, version_->version, figures.sums);
  context_->metrics->NonFinite(version_->model, "log_q",
                               figures.non_finite_log_q);
  context_->metrics->NonFinite(version_->model, "action",
                               figures.non_finite_action);
  const Payloads payloads = PayloadsOf(*block, figures.kept, content_);
  const PayloadField fields[] = {{6, {}, payloads.log_q},
                                 {7, {}, payloads.action},
                                 {15, {}, payloads.phi}};
  outbox_.push_back(
      {.message = EncodeBlock(MakeSampleBlock(*block, figures, payloads),
                              fields, block->memory),
       .model = version_->model,
       .draws = block->count,
       .next_index = block->first_index + static_cast<uint64_t>(block->count)});
  return true;
}

grpc::Status SampleStream::DrainStatus() {
  if (version_ == nullptr) {
    return Error(grpc::StatusCode::UNAVAILABLE, "DRAINING",
                 "the server is stopping; call again");
  }
  const std::string id = absl::BytesToHexString(stream_.Bytes());
  return Error(
             grpc::StatusCode::UNAVAILABLE, "DRAINING",
             absl::StrCat("the server is stopping; call again with stream.id ",
                          id, ", first_index ", next_index_,
                          " (or one past the last draw you have) and digest ",
                          version_->digest.substr(0, 12), "..."))
      .With("stream_id", id)
      .With("next_index", next_index_)
      .With("model", version_->model)
      .With("digest", version_->digest)
      .RetryAfter(std::chrono::seconds(1));
}

}  // namespace latticed
