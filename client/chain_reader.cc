#include "client/chain_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/errors.h"

namespace latticed {

ChainReader::ChainReader(std::shared_ptr<const Session> session,
                         const v1::RunChainRequest& request)
    : session_(std::move(session)),
      request_(request),
      retry_(session_->NewRetry()),
      token_(request.token()) {}

void ChainReader::Open() {
  v1::RunChainRequest request = request_;
  request.set_steps(request_.steps() - steps_);
  if (!token_.empty()) {
    request.set_token(token_);
  } else if (begun_) {
    // Broken between the header and the first block: begin the same chain.
    request.mutable_chain()->mutable_model()->set_digest(
        header_.provenance().digest());
    request.mutable_chain()->mutable_stream()->set_id(
        header_.provenance().stream_id());
  }
  has_header_ = false;
  arrived_ = 0;
  call_ = std::make_unique<MessageStream<v1::RunChainResponse>>(
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue,
          void* tag) {
        session_->Prepare(context);
        return session_->chain->AsyncRunChain(context, request, queue, tag);
      },
      session_->options.silence_max, session_->options.cancelled);
}

absl::StatusOr<bool> ChainReader::Next(StepBlock* block) {
  while (!done_) {
    if (call_ == nullptr) Open();
    v1::RunChainResponse message;
    absl::Status error;
    if (call_->Read(&message)) {
      absl::StatusOr<bool> filled = Take(message, block);
      if (filled.ok()) {
        if (*filled) return true;
        continue;
      }
      error = filled.status();
    } else {
      error = call_->Finish();
      if (begun_ && steps_ == request_.steps()) {
        done_ = true;
        break;
      }
      if (error.ok()) {
        error = absl::InternalError(
            absl::StrCat("the server ended the chain after ", steps_, " of ",
                         request_.steps(), " steps"));
      }
    }
    call_.reset();
    if (absl::Status s = retry_.Wait(error); !s.ok()) {
      done_ = true;
      if (steps_ > 0) {
        s = WithMessage(
            s, absl::StrCat(s.message(), "; ", steps_, " of ", request_.steps(),
                            " steps had arrived"));
      }
      return session_->Explain(s);
    }
    if (begun_) ++resumes_;
  }
  return false;
}

absl::StatusOr<bool> ChainReader::Take(const v1::RunChainResponse& message,
                                       StepBlock* block) {
  switch (message.kind_case()) {
    case v1::RunChainResponse::kHeader:
      if (absl::Status s = TakeHeader(message.header()); !s.ok()) return s;
      return false;
    case v1::RunChainResponse::kSummary:
      summary_ = message.summary();
      return false;
    case v1::RunChainResponse::kBlock:
      return TakeBlock(message.block(), block);
    default:
      return false;
  }
}

absl::Status ChainReader::TakeHeader(const v1::ChainHeader& header) {
  if (!begun_) {
    header_ = header;
    // 0 from a server that knows of one chain only.
    chains_ = std::max<uint32_t>(1, header.chains());
    const uint32_t wanted = std::max<uint32_t>(1, request_.chain().chains());
    if (request_.chain().has_update() && !header.has_update()) {
      return absl::UnimplementedError(
          "the server makes no updates between the steps of a chain");
    }
    if (request_.has_chain() && chains_ != wanted) {
      return absl::UnimplementedError(absl::StrCat("the server runs ", chains_,
                                                   " chains where ", wanted,
                                                   " were asked for"));
    }
    run_.assign(chains_, 0);
    begun_ = true;
  } else {
    const v1::Provenance& was = header_.provenance();
    const v1::Provenance& is = header.provenance();
    if (is.digest() != was.digest() || is.stream_id() != was.stream_id() ||
        header.thinning() != header_.thinning() ||
        header.update().SerializeAsString() !=
            header_.update().SerializeAsString() ||
        std::max<uint32_t>(1, header.chains()) != chains_ ||
        header.first_step() != header_.first_step() + steps_) {
      return absl::FailedPreconditionError(
          "the server continued another chain than the token's");
    }
    if (is.numerics_mode() != was.numerics_mode()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the server that continues computes in mode '", is.numerics_mode(),
          "', the chain so far in '", was.numerics_mode(), "'"));
    }
  }
  // A token keeps the content the chain was started with, which only the
  // payload shows.
  shape_ = MakeShape(header.provenance().lattice(), request_.chain().content());
  has_header_ = true;
  retry_.Answered();
  return absl::OkStatus();
}

absl::StatusOr<bool> ChainReader::TakeBlock(const v1::ChainBlock& message,
                                            StepBlock* block) {
  if (!has_header_) {
    return absl::InternalError("the server sent a block before its header");
  }
  const uint64_t expected = header_.first_step() + steps_;
  if (message.first_step() != expected || message.steps() == 0 ||
      message.steps() > request_.steps() - steps_ ||
      message.chain() != arrived_ ||
      ((arrived_ > 0 || returned_ > 0) && message.steps() != round_steps_)) {
    return absl::InternalError(absl::StrCat(
        "the server sent steps ", message.first_step(), " + ", message.steps(),
        " of chain ", message.chain(), " where ", expected, " of chain ",
        arrived_, " comes next and ", request_.steps() - steps_, " are left"));
  }
  const bool last = message.chain() + 1 == chains_;
  if (last && message.token().empty()) {
    return absl::InternalError("the server sent a block without its token");
  }
  round_steps_ = message.steps();
  if (arrived_ < returned_) {  // it came before the break
    ++arrived_;
    return false;
  }
  BlockShape shape = shape_;
  if (request_.has_token() && message.index_size() > 0) {
    shape.content.phi = !message.phi().empty();
    shape.content.log_q = !message.log_q().empty();
    shape.content.action = !message.action().empty();
  }
  if (absl::Status s = Decode(message, shape, header_.thinning(), block);
      !s.ok()) {
    // Damaged on its way: the same steps can be had again.
    if (absl::IsDataLoss(s) &&
        ++damaged_ < session_->options.retry.damaged_max) {
      return absl::UnavailableError(s.message());
    }
    return s;
  }
  if (header_.has_update() && block->updates.size() != block->index.size()) {
    return absl::InternalError(
        "the server sent a block without its counts of updates");
  }
  damaged_ = 0;
  block->chain = message.chain();
  accepted_ += block->accepted;
  non_finite_ += block->non_finite;
  uint64_t& run = run_[message.chain()];
  for (uint8_t moved : block->accept) {
    run = moved ? 0 : run + 1;
    longest_run_ = std::max(longest_run_, run);
  }
  ++arrived_;
  ++returned_;
  if (last) {
    token_ = block->token;
    steps_ += block->steps;
    arrived_ = 0;
    returned_ = 0;
  }
  retry_.Progress();
  return true;
}

}  // namespace latticed
