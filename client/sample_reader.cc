#include "client/sample_reader.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/errors.h"
#include "core/random/stream.h"

namespace latticed {

uint64_t DigestPrefix(absl::string_view digest) {
  uint64_t prefix = 0;
  if (!absl::SimpleHexAtoi(digest.substr(0, 16), &prefix)) return 0;
  return prefix;
}

SampleReader::SampleReader(std::shared_ptr<const Session> session,
                           const v1::StreamSamplesRequest& request)
    : session_(std::move(session)),
      request_(request),
      retry_(session_->NewRetry()) {}

void SampleReader::Open() {
  v1::StreamSamplesRequest request = request_;
  if (!provenances_.empty()) {
    const v1::Provenance& last = provenances_.back();
    request.mutable_stream()->set_id(last.stream_id());
    request.set_first_index(request_.first_index() + received_);
    request.set_count(request_.count() - received_);
    if (request_.model().policy() != v1::VERSION_POLICY_FOLLOW) {
      request.mutable_model()->set_digest(last.digest());
    }
  }
  has_header_ = false;
  call_ = std::make_unique<MessageStream<v1::StreamSamplesResponse>>(
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue,
          void* tag) {
        session_->Prepare(context);
        return session_->sampler->AsyncStreamSamples(context, request, queue,
                                                     tag);
      },
      session_->options.silence_max, session_->options.cancelled);
}

absl::StatusOr<bool> SampleReader::Next(DrawBlock* block) {
  while (!done_) {
    if (call_ == nullptr) Open();
    v1::StreamSamplesResponse message;
    absl::Status error;
    if (call_->Read(&message)) {
      absl::StatusOr<Outcome> outcome = Take(message, block);
      if (outcome.ok()) {
        if (*outcome == Outcome::kBlock) return true;
        continue;
      }
      error = outcome.status();
    } else {
      error = call_->Finish();
      // How the call ends no longer matters once every draw is here.
      if (received_ == request_.count() && !provenances_.empty()) {
        done_ = true;
        break;
      }
      if (error.ok()) {
        error = absl::InternalError(
            absl::StrCat("the server ended the stream after ", received_,
                         " of ", request_.count(), " draws"));
      }
    }
    call_.reset();
    if (absl::Status s = Recover(error); !s.ok()) {
      done_ = true;
      return session_->Explain(s);
    }
  }
  return false;
}

absl::StatusOr<SampleReader::Outcome> SampleReader::Take(
    v1::StreamSamplesResponse& message, DrawBlock* block) {
  switch (message.kind_case()) {
    case v1::StreamSamplesResponse::kHeader:
      if (absl::Status s = TakeProvenance(message.header()); !s.ok()) return s;
      has_header_ = true;
      return Outcome::kOther;
    case v1::StreamSamplesResponse::kChange:
      if (absl::Status s = TakeProvenance(message.change().provenance());
          !s.ok()) {
        return s;
      }
      return Outcome::kOther;
    case v1::StreamSamplesResponse::kBlock:
      if (absl::Status s = TakeBlock(message.block(), block); !s.ok()) return s;
      return Outcome::kBlock;
    default:
      // The summary of one call says nothing that weights() does not, and
      // kinds that a newer server may add are not needed for the draws.
      return Outcome::kOther;
  }
}

absl::Status SampleReader::TakeProvenance(const v1::Provenance& provenance) {
  if (provenances_.empty()) {
    provenances_.push_back(provenance);
  } else {
    const v1::Provenance& last = provenances_.back();
    if (provenance.stream_id() != last.stream_id()) {
      return absl::FailedPreconditionError(
          "the server resumed the call on another RNG stream");
    }
    if (provenance.digest() != last.digest()) {
      if (request_.model().policy() != v1::VERSION_POLICY_FOLLOW) {
        return absl::FailedPreconditionError(absl::StrCat(
            "the server continued with version ", provenance.version(), " (",
            provenance.digest().substr(0, 12), ") where ", last.version(), " (",
            last.digest().substr(0, 12), ") was pinned"));
      }
      provenances_.push_back(provenance);
    } else if (provenance.numerics_mode() != last.numerics_mode()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the server that continues computes in mode '",
                       provenance.numerics_mode(), "', the draws so far in '",
                       last.numerics_mode(),
                       "': the rest would not be the same bytes; draw again"));
    }
  }
  shape_ = MakeShape(provenance.lattice(), request_.content());
  retry_.Answered();
  return absl::OkStatus();
}

absl::Status SampleReader::TakeBlock(const v1::SampleBlock& message,
                                     DrawBlock* block) {
  if (!has_header_) {
    return absl::InternalError("the server sent a block before its header");
  }
  const uint64_t expected = request_.first_index() + received_;
  if (message.first_index() != expected || message.count() == 0 ||
      message.count() > request_.count() - received_) {
    return absl::InternalError(
        absl::StrCat("the server sent draws ", message.first_index(), " + ",
                     message.count(), " where ", expected, " comes next and ",
                     request_.count() - received_, " are left"));
  }
  if (message.digest_prefix() != DigestPrefix(provenance().digest())) {
    return absl::InternalError(
        "a block comes from another version than the header says");
  }
  if (absl::Status s = Decode(message, shape_, block); !s.ok()) {
    // Damaged on its way: the same draws can be had again.
    if (absl::IsDataLoss(s) &&
        ++damaged_ < session_->options.retry.damaged_max) {
      return absl::UnavailableError(s.message());
    }
    return s;
  }
  damaged_ = 0;
  received_ += block->count;
  non_finite_ += block->non_finite.size();
  if (shape_.content.log_q && shape_.content.action) {
    for (size_t i = 0; i < block->log_q.size(); ++i) {
      weights_.Add(-block->action[i] - block->log_q[i]);
    }
  }
  retry_.Progress();
  return absl::OkStatus();
}

absl::Status SampleReader::Recover(const absl::Status& error) {
  const bool begun = !provenances_.empty();
  if (absl::Status s = retry_.Wait(error); !s.ok()) {
    if (received_ == 0) return s;
    return WithMessage(s, absl::StrCat(s.message(), "; ", received_, " of ",
                                       request_.count(), " draws had arrived"));
  }
  if (begun) ++resumes_;
  return absl::OkStatus();
}

}  // namespace latticed
