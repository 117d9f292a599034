#include "client/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace latticed {
namespace {

constexpr char kDetailsUrl[] = "type.googleapis.com/google.rpc.Status";

// The first detail of type T, if the status carries one that parses.
template <typename T>
std::optional<T> Detail(const google::rpc::Status& details) {
  for (const google::protobuf::Any& any : details.details()) {
    T detail;
    if (any.Is<T>() && any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

std::optional<google::rpc::Status> Details(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kDetailsUrl);
  google::rpc::Status details;
  if (!payload.has_value() || !details.ParseFromString(std::string(*payload))) {
    return std::nullopt;
  }
  return details;
}

// gRPC 1.51 says "failed to connect to all addresses; last error: UNKNOWN:
// ipv4:127.0.0.1:7410: Failed to connect to remote host: Connection refused".
std::string Shortened(const grpc::Status& status) {
  const std::string& message = status.error_message();
  if (!absl::StartsWith(message, "failed to connect to all addresses")) {
    return message;
  }
  const size_t colon = message.rfind(": ");
  const absl::string_view reason =
      colon == std::string::npos ? absl::string_view()
                                 : absl::string_view(message).substr(colon + 2);
  // What is left of an attempt that the channel itself gave up.
  if (reason.empty() || reason == "tcp handshaker shutdown") {
    return kCannotConnect;
  }
  return absl::StrCat(kCannotConnect, " (", reason, ")");
}

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  std::string message = Shortened(status);
  google::rpc::Status details;
  const bool has_details = !status.error_details().empty() &&
                           details.ParseFromString(status.error_details());
  if (has_details) {
    if (const auto bad = Detail<google::rpc::BadRequest>(details)) {
      for (const auto& violation : bad->field_violations()) {
        if (absl::StrContains(message, violation.description()) &&
            absl::StrContains(message, violation.field())) {
          continue;
        }
        absl::StrAppend(&message, message.empty() ? "" : "; ",
                        violation.field(), ": ", violation.description());
      }
    }
  }
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()),
                      message);
  if (has_details) {
    result.SetPayload(kDetailsUrl, absl::Cord(status.error_details()));
  }
  return result;
}

std::string ErrorReason(const absl::Status& status) {
  const auto details = Details(status);
  if (!details.has_value()) return "";
  const auto info = Detail<google::rpc::ErrorInfo>(*details);
  return info.has_value() ? info->reason() : "";
}

std::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const auto details = Details(status);
  if (!details.has_value()) return std::nullopt;
  const auto info = Detail<google::rpc::RetryInfo>(*details);
  if (!info.has_value()) return std::nullopt;
  return absl::Seconds(info->retry_delay().seconds()) +
         absl::Nanoseconds(info->retry_delay().nanos());
}

bool IsTransient(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return true;
    case absl::StatusCode::kResourceExhausted:
      return RetryDelay(status).has_value();
    case absl::StatusCode::kDeadlineExceeded:
      // The server ends calls whose reader stood still, such as a suspended
      // client: it goes on where it was.
      return ErrorReason(status) == "STREAM_STALLED";
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      // What gRPC 1.51 reports when a peer or a proxy resets a stream.
      return absl::StartsWith(status.message(), "Received RST_STREAM") ||
             status.message() == "Stream removed";
    default:
      return false;
  }
}

absl::Status WithMessage(const absl::Status& status,
                         absl::string_view message) {
  absl::Status result(status.code(), message);
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    result.SetPayload(url, payload);
  });
  return result;
}

}  // namespace latticed
