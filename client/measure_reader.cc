#include "client/measure_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/errors.h"

namespace latticed {
namespace {

Estimate FromProto(const v1::Estimate& estimate) {
  return {estimate.value(), estimate.error()};
}

}  // namespace

MeasureReader::MeasureReader(std::shared_ptr<const Session> session,
                             const v1::MeasureRequest& request)
    : session_(std::move(session)),
      request_(request),
      retry_(session_->NewRetry()) {}

uint64_t MeasureReader::Done() const {
  return sums_.has_value() ? sums_->Total().positions : 0;
}

void MeasureReader::Open() {
  v1::MeasureRequest request = request_;
  request.set_progress_sums(true);
  past_ = sums_;
  past_accepted_ = accepted_;
  if (begun_) {
    request.mutable_model()->set_digest(provenance_.digest());
    request.mutable_stream()->set_id(provenance_.stream_id());
    request.set_first_index(request_.first_index() + Done());
    v1::MeasureBudget& budget = *request.mutable_budget();
    if (budget.draws() > 0) budget.set_draws(budget.draws() - Done());
    if (budget.seconds() > 0) {
      budget.set_seconds(std::max(
          0.1, budget.seconds() - absl::ToDoubleSeconds(started_.Elapsed())));
    }
  }
  call_ = std::make_unique<MessageStream<v1::MeasureResponse>>(
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue,
          void* tag) {
        session_->Prepare(context);
        return session_->measure->AsyncMeasure(context, request, queue, tag);
      },
      session_->options.silence_max, session_->options.cancelled);
}

absl::StatusOr<bool> MeasureReader::Next(Measured* measured) {
  while (!done_) {
    if (call_ == nullptr) Open();
    v1::MeasureResponse message;
    absl::Status error;
    if (call_->Read(&message)) {
      error = Take(message, measured);
      if (error.ok()) {
        retry_.Answered();
        if (message.final()) {
          done_ = true;
        } else if (past_.has_value() && Reached(*measured, request_)) {
          // The server sees only its own part.
          done_ = true;
          call_.reset();
        }
        return true;
      }
    } else {
      error = call_->Finish();
      if (error.ok()) {
        error = absl::InternalError(
            "the server ended the measurement without its final message");
      }
    }
    call_.reset();
    // Broken after the last draw: nothing is left to ask for.
    if (request_.budget().draws() > 0 && Done() >= request_.budget().draws()) {
      done_ = true;
      break;
    }
    if (absl::Status s = retry_.Wait(error); !s.ok()) {
      done_ = true;
      if (Done() > 0) {
        s = WithMessage(s, absl::StrCat(s.message(), "; ", Done(),
                                        " draws had been measured"));
      }
      return session_->Explain(s);
    }
    if (begun_) ++resumes_;
  }
  return false;
}

absl::Status MeasureReader::Take(const v1::MeasureResponse& message,
                                 Measured* measured) {
  if (message.has_provenance()) {
    const v1::Provenance& is = message.provenance();
    if (!begun_) {
      provenance_ = is;
      begun_ = true;
    } else if (is.digest() != provenance_.digest() ||
               is.stream_id() != provenance_.stream_id() ||
               is.numerics_mode() != provenance_.numerics_mode()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the server that continues draws with digest ",
          is.digest().substr(0, 12), " in mode '", is.numerics_mode(),
          "', the draws so far are of ", provenance_.digest().substr(0, 12),
          " in mode '", provenance_.numerics_mode(), "'"));
    }
  } else if (!begun_) {
    return absl::InternalError("the server sent results before a provenance");
  }
  if (message.has_sums()) {
    auto sums = Decode(message.sums(), provenance_.lattice(),
                       request_.estimator() == v1::ESTIMATOR_CHAIN);
    if (!sums.ok()) return sums.status();
    if (past_.has_value()) {
      sums_ = past_;
      sums_->Append(*std::move(sums));
    } else {
      sums_ = *std::move(sums);
    }
    accepted_ = past_accepted_ + message.accepted();
    retry_.Progress();
  } else if (!message.has_provenance()) {
    return absl::InternalError("the server sent results without their sums");
  }
  *measured = Measured();
  if (!sums_.has_value()) return absl::OkStatus();
  *measured = MeasuredFrom(*sums_, request_.observable());
  measured->accepted = accepted_;
  if (past_.has_value() || !message.has_sums()) return absl::OkStatus();
  // One unbroken call: the server knows more of a chain than its blocks tell.
  for (const auto& [name, estimate] : message.observables()) {
    measured->observables[name] = FromProto(estimate);
  }
  measured->log_z = FromProto(message.log_z());
  measured->tau_int = message.tau_int();
  return absl::OkStatus();
}

}  // namespace latticed
