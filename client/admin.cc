#include "client/admin.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/unary.h"
#include "core/wire/digest.h"

namespace latticed {
namespace {

// A random UUID (RFC 4122, version 4).
std::string RequestId() {
  std::string bytes = RandomBytes(16);
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  const std::string hex = absl::BytesToHexString(bytes);
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-",
                      hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                      hex.substr(20));
}

template <typename Request, typename Response>
absl::StatusOr<v1::ModelVersion> Mutate(
    const Session& session, Request request,
    grpc::Status (v1::AdminService::Stub::*method)(grpc::ClientContext*,
                                                   const Request&, Response*)) {
  request.set_request_id(RequestId());
  auto response = Unary<Request, Response>(
      session,
      [&](grpc::ClientContext* context, const Request& in, Response* out) {
        return (session.admin.get()->*method)(context, in, out);
      },
      request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_version());
}

}  // namespace

AdminClient::AdminClient(std::shared_ptr<const Session> session)
    : session_(std::move(session)) {}

absl::StatusOr<std::vector<v1::ModelVersion>> AdminClient::Refresh(
    const std::string& model) {
  v1::RefreshModelRequest request;
  request.set_model(model);
  const auto response =
      Unary<v1::RefreshModelRequest, v1::RefreshModelResponse>(
          *session_,
          [this](grpc::ClientContext* context, const auto& in, auto* out) {
            return session_->admin->RefreshModel(context, in, out);
          },
          request);
  if (!response.ok()) return response.status();
  return std::vector<v1::ModelVersion>(response->versions().begin(),
                                       response->versions().end());
}

absl::StatusOr<v1::ModelVersion> AdminClient::Promote(
    const std::string& model, const std::string& digest) {
  v1::PromoteModelVersionRequest request;
  request.set_model(model);
  request.set_digest(digest);
  return Mutate(*session_, request,
                &v1::AdminService::Stub::PromoteModelVersion);
}

absl::StatusOr<v1::ModelVersion> AdminClient::Rollback(
    const std::string& model, const std::string& reason) {
  v1::RollbackModelRequest request;
  request.set_model(model);
  request.set_reason(reason);
  return Mutate(*session_, request, &v1::AdminService::Stub::RollbackModel);
}

absl::StatusOr<v1::ModelVersion> AdminClient::Quarantine(
    const std::string& model, const std::string& digest,
    const std::string& reason) {
  v1::QuarantineModelVersionRequest request;
  request.set_model(model);
  request.set_digest(digest);
  request.set_reason(reason);
  return Mutate(*session_, request,
                &v1::AdminService::Stub::QuarantineModelVersion);
}

absl::StatusOr<v1::ModelVersion> AdminClient::Unquarantine(
    const std::string& model, const std::string& digest) {
  v1::UnquarantineModelVersionRequest request;
  request.set_model(model);
  request.set_digest(digest);
  return Mutate(*session_, request,
                &v1::AdminService::Stub::UnquarantineModelVersion);
}

absl::Status AdminClient::Drain() {
  v1::DrainServerRequest request;
  request.set_request_id(RequestId());
  return Unary<v1::DrainServerRequest, v1::DrainServerResponse>(
             *session_,
             [this](grpc::ClientContext* context, const auto& in, auto* out) {
               return session_->admin->DrainServer(context, in, out);
             },
             request)
      .status();
}

absl::StatusOr<v1::GetServerInfoResponse> AdminClient::Info() {
  return Unary<v1::GetServerInfoRequest, v1::GetServerInfoResponse>(
      *session_,
      [this](grpc::ClientContext* context, const auto& in, auto* out) {
        return session_->admin->GetServerInfo(context, in, out);
      },
      v1::GetServerInfoRequest());
}

}  // namespace latticed
