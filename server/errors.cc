#include "server/errors.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "google/rpc/status.pb.h"

namespace latticed {

Error::Error(grpc::StatusCode code, absl::string_view reason,
             std::string message)
    : code_(code), message_(std::move(message)) {
  info_.set_reason(std::string(reason));
  info_.set_domain("latticed");
}

Error& Error::With(absl::string_view key, absl::string_view value) {
  (*info_.mutable_metadata())[std::string(key)] = std::string(value);
  return *this;
}

Error& Error::With(absl::string_view key, uint64_t value) {
  return With(key, absl::string_view(absl::StrCat(value)));
}

Error& Error::Field(absl::string_view field, absl::string_view description) {
  auto* violation = bad_request_.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(std::string(description));
  return *this;
}

Error& Error::RetryAfter(std::chrono::milliseconds delay) {
  retry_.mutable_retry_delay()->set_seconds(delay.count() / 1000);
  retry_.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(delay.count() % 1000 * 1000000));
  return *this;
}

Error::operator grpc::Status() const {
  google::rpc::Status status;
  status.set_code(code_);
  status.set_message(message_);
  status.add_details()->PackFrom(info_);
  if (bad_request_.field_violations_size() > 0) {
    status.add_details()->PackFrom(bad_request_);
  }
  if (retry_.has_retry_delay()) status.add_details()->PackFrom(retry_);
  return grpc::Status(code_, message_, status.SerializeAsString());
}

grpc::Status InvalidField(absl::string_view field,
                          absl::string_view description) {
  return Error(grpc::StatusCode::INVALID_ARGUMENT, "INVALID_FIELD",
               absl::StrCat(field, ": ", description))
      .With("field", field)
      .Field(field, description);
}

absl::string_view CodeName(grpc::StatusCode code) {
  static constexpr absl::string_view kNames[] = {"OK",
                                                 "CANCELLED",
                                                 "UNKNOWN",
                                                 "INVALID_ARGUMENT",
                                                 "DEADLINE_EXCEEDED",
                                                 "NOT_FOUND",
                                                 "ALREADY_EXISTS",
                                                 "PERMISSION_DENIED",
                                                 "RESOURCE_EXHAUSTED",
                                                 "FAILED_PRECONDITION",
                                                 "ABORTED",
                                                 "OUT_OF_RANGE",
                                                 "UNIMPLEMENTED",
                                                 "INTERNAL",
                                                 "UNAVAILABLE",
                                                 "DATA_LOSS",
                                                 "UNAUTHENTICATED"};
  const int number = static_cast<int>(code);
  return number >= 0 && number < 17 ? kNames[number] : "_OTHER";
}

}  // namespace latticed
