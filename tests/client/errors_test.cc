#include "client/errors.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using testing::DetailedStatus;

absl::Status Status(grpc::StatusCode code, const std::string& message) {
  return FromGrpc(grpc::Status(code, message));
}

TEST(Errors, KeepCodeAndMessage) {
  EXPECT_THAT(FromGrpc(grpc::Status::OK), IsOk());
  EXPECT_THAT(Status(grpc::StatusCode::DATA_LOSS, "bad weights"),
              StatusIs(absl::StatusCode::kDataLoss, "bad weights"));
}

TEST(Errors, NameTheFieldsTheMessageLeavesOut) {
  EXPECT_THAT(FromGrpc(DetailedStatus(grpc::StatusCode::INVALID_ARGUMENT, "no",
                                      "R", "count", "must be 1..2^40")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "no; count: must be 1..2^40"));
  EXPECT_THAT(
      FromGrpc(DetailedStatus(grpc::StatusCode::INVALID_ARGUMENT,
                              "count: must be 1..2^40", "R", "count",
                              "must be 1..2^40")),
      StatusIs(absl::StatusCode::kInvalidArgument, "count: must be 1..2^40"));
}

TEST(Errors, ReasonAndDelayComeFromTheDetails) {
  const absl::Status status =
      FromGrpc(DetailedStatus(grpc::StatusCode::RESOURCE_EXHAUSTED, "full",
                              "QUEUE_FULL", "", "", /*retry_delay_ms=*/250));
  EXPECT_EQ(ErrorReason(status), "QUEUE_FULL");
  EXPECT_EQ(RetryDelay(status), absl::Milliseconds(250));
  EXPECT_EQ(ErrorReason(WithMessage(status, "other")), "QUEUE_FULL");
  EXPECT_EQ(ErrorReason(absl::InternalError("x")), "");
  EXPECT_EQ(RetryDelay(absl::InternalError("x")), std::nullopt);
}

TEST(Errors, DamagedDetailsAreIgnored) {
  const absl::Status status =
      FromGrpc(grpc::Status(grpc::StatusCode::INTERNAL, "m", "\xff\xff\xff"));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal, "m"));
  EXPECT_EQ(ErrorReason(status), "");
}

TEST(Errors, WhatMayPassIsTransientAndNothingElse) {
  EXPECT_TRUE(IsTransient(Status(grpc::StatusCode::UNAVAILABLE, "")));
  EXPECT_TRUE(IsTransient(
      Status(grpc::StatusCode::INTERNAL, "Received RST_STREAM with code 2")));
  EXPECT_TRUE(IsTransient(FromGrpc(DetailedStatus(
      grpc::StatusCode::DEADLINE_EXCEEDED, "slow", "STREAM_STALLED"))));
  EXPECT_FALSE(IsTransient(Status(grpc::StatusCode::DEADLINE_EXCEEDED, "")));
  EXPECT_FALSE(IsTransient(Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "")));
  EXPECT_FALSE(IsTransient(Status(grpc::StatusCode::INTERNAL, "bug")));
  EXPECT_FALSE(IsTransient(Status(grpc::StatusCode::NOT_FOUND, "")));
  EXPECT_FALSE(IsTransient(Status(grpc::StatusCode::CANCELLED, "")));
}

TEST(Errors, FailedConnectionsReadShortly) {
  EXPECT_THAT(
      Status(grpc::StatusCode::UNAVAILABLE,
             "failed to connect to all addresses; last error: UNKNOWN: "
             "ipv4:127.0.0.1:1: Failed to connect to remote host: Connection "
             "refused"),
      StatusIs(absl::StatusCode::kUnavailable,
               "cannot connect (Connection refused)"));
}

}  // namespace
}  // namespace latticed
