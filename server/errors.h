// Errors as clients get them: google.rpc.Status in grpc-status-details-bin with
// exactly one ErrorInfo{reason, domain "latticed", metadata}, and BadRequest
// or RetryInfo where they fit. A message says what, why or what is allowed, and
// what to try; every changing part of it is in the metadata too.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/error_details.pb.h"
#include "grpcpp/support/status.h"

namespace latticed {

class Error {
 public:
  // `reason` is UPPER_SNAKE_CASE and part of the interface: clients act on it.
  Error(grpc::StatusCode code, absl::string_view reason, std::string message);

  Error& With(absl::string_view key, absl::string_view value);
  Error& With(absl::string_view key, uint64_t value);
  Error& Field(absl::string_view field, absl::string_view description);
  Error& RetryAfter(std::chrono::milliseconds delay);

  operator grpc::Status() const;  // NOLINT: an Error is a status

 private:
  grpc::StatusCode code_;
  std::string message_;
  google::rpc::ErrorInfo info_;
  google::rpc::BadRequest bad_request_;
  google::rpc::RetryInfo retry_;
};

// INVALID_ARGUMENT INVALID_FIELD, message "<field>: <description>".
grpc::Status InvalidField(absl::string_view field,
                          absl::string_view description);

// gRPC's codes are Abseil's codes.
inline grpc::StatusCode GrpcCode(absl::StatusCode code) {
  return static_cast<grpc::StatusCode>(code);
}
// "INVALID_ARGUMENT"; "_OTHER" for a number that is no code.
absl::string_view CodeName(grpc::StatusCode code);

}  // namespace latticed
