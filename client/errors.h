// gRPC statuses as absl::Status, with the google.rpc details that came along.
// Pure.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/support/status.h"

namespace latticed {

// How the message of a failed connection begins; all of it when the reason is
// not known.
inline constexpr char kCannotConnect[] = "cannot connect";

// Same code; the message names the violated fields even where the server's own
// message does not. The details stay attached for the functions below.
absl::Status FromGrpc(const grpc::Status& status);

// ErrorInfo.reason, e.g. "MODEL_NOT_FOUND"; empty if there is none.
std::string ErrorReason(const absl::Status& status);

// RetryInfo.retry_delay.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// Whether the same call may succeed a little later: the server is away or
// stopping, the connection broke, or the server asked to come back later.
bool IsTransient(const absl::Status& status);

// The same code and details under another message.
absl::Status WithMessage(const absl::Status& status, absl::string_view message);

}  // namespace latticed
