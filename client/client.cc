#include "client/client.h"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/errors.h"
#include "client/unary.h"
#include "core/wire/crc32c.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace latticed {
namespace {

// Every whole message of the server stays under 4 MiB; twice that leaves room
// for newer servers.
constexpr int kReceiveBytesMax = 8 << 20;

absl::Status CheckTarget(const std::string& target) {
  if (absl::StrContains(target, "://") || absl::StartsWith(target, "unix:")) {
    return absl::OkStatus();
  }
  const size_t colon = target.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(target.substr(colon + 1), &port) || port < 1 ||
      port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("server address '", target,
                     "' is not HOST:PORT with a port of 1..65535; the default "
                     "is 127.0.0.1:7410"));
  }
  return absl::OkStatus();
}

// A list of addresses in another order for each client: one that makes a single
// call begins with the first of them.
std::string Shuffled(const std::string& target) {
  const size_t colon = target.find(':');
  std::vector<std::string> addresses =
      absl::StrSplit(target.substr(colon + 1), ',');
  std::random_device random;
  std::shuffle(addresses.begin(), addresses.end(), random);
  return absl::StrCat(target.substr(0, colon + 1),
                      absl::StrJoin(addresses, ","));
}

}  // namespace

absl::Status Session::Explain(const absl::Status& status) const {
  // With a reason the server itself has spoken, so it is there.
  if (!absl::IsUnavailable(status) || !ErrorReason(status).empty()) {
    return status;
  }
  return WithMessage(status,
                     absl::StrCat("server at ", target,
                                  " is not available: ", status.message()));
}

Client::Client(std::shared_ptr<const Session> session)
    : session_(std::move(session)) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(
    const std::string& target, ClientOptions options) {
  if (absl::Status s = CheckTarget(target); !s.ok()) return s;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kReceiveBytesMax);
  arguments.SetUserAgentPrefix(options.user_agent);
  // A proxy named in the environment would also catch 127.0.0.1.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // gRPC's own waits between connection attempts (1 s up to 2 minutes) would
  // outlast ours: Retry paces the attempts.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A call of an own connection does not wait for a stalled neighbour.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A name of several servers: calls take turns between those that are there,
  // have something to draw from and are not about to stop. An address of one is
  // left as it is: what it says of itself must be heard also when it serves
  // nothing.
  for (const char* scheme : {"dns:", "ipv4:", "ipv6:"}) {
    if (!absl::StartsWith(target, scheme)) continue;
    arguments.SetServiceConfigJSON(
        R"({"loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": "readiness"}})");
  }
  auto session = std::make_shared<Session>();
  std::shared_ptr<grpc::ChannelCredentials> credentials =
      grpc::InsecureChannelCredentials();
  const TlsOptions& tls = options.tls;
  const bool encrypted = !tls.ca_file.empty() ||
                         !tls.certificate_file.empty() ||
                         !tls.key_file.empty() || !tls.server_name.empty();
  if (encrypted) {
    auto made = ReadTlsOptions(tls);
    if (!made.ok()) return made.status();
    credentials = *std::move(made);
    if (!tls.server_name.empty()) {
      arguments.SetSslTargetNameOverride(tls.server_name);
    }
  }
  if (!options.token_file.empty()) {
    if (!encrypted && !IsLocalTarget(target)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the token of --auth_token_file would go to ", target,
                       " for everyone on the way to read; add --tls_ca_file"));
    }
    const auto token = ReadBearerToken(options.token_file);
    if (!token.ok()) return token.status();
    session->authorization = absl::StrCat("Bearer ", *token);
  }
  const std::shared_ptr<grpc::Channel> channel = grpc::CreateCustomChannel(
      absl::StartsWith(target, "ipv4:") || absl::StartsWith(target, "ipv6:")
          ? Shuffled(target)
          : target,
      credentials, arguments);
  session->target = target;
  session->options = std::move(options);
  session->channel = channel;
  session->sampler = v1::SamplerService::NewStub(channel);
  session->chain = v1::ChainService::NewStub(channel);
  session->model = v1::ModelService::NewStub(channel);
  session->measure = v1::MeasureService::NewStub(channel);
  session->admin = v1::AdminService::NewStub(channel);
  session->health = grpc::health::v1::Health::NewStub(channel);
  return std::unique_ptr<Client>(new Client(std::move(session)));
}

absl::StatusOr<bool> Client::Serves(const std::string& service) {
  using grpc::health::v1::HealthCheckRequest;
  using grpc::health::v1::HealthCheckResponse;
  HealthCheckRequest request;
  request.set_service(service);
  const auto response = Unary<HealthCheckRequest, HealthCheckResponse>(
      *session_,
      [this](grpc::ClientContext* context, const auto& in, auto* out) {
        return session_->health->Check(context, in, out);
      },
      request);
  if (!response.ok()) return response.status();
  return response->status() == HealthCheckResponse::SERVING;
}

absl::StatusOr<std::vector<v1::Model>> Client::ListModels() {
  std::vector<v1::Model> models;
  v1::ListModelsRequest request;
  do {
    auto page = Unary<v1::ListModelsRequest, v1::ListModelsResponse>(
        *session_,
        [this](grpc::ClientContext* context, const auto& in, auto* out) {
          return session_->model->ListModels(context, in, out);
        },
        request);
    if (!page.ok()) return page.status();
    for (v1::Model& model : *page->mutable_models()) {
      models.push_back(std::move(model));
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return models;
}

absl::StatusOr<v1::Model> Client::GetModel(const std::string& model) {
  v1::GetModelRequest request;
  request.set_model(model);
  auto response = Unary<v1::GetModelRequest, v1::GetModelResponse>(
      *session_,
      [this](grpc::ClientContext* context, const auto& in, auto* out) {
        return session_->model->GetModel(context, in, out);
      },
      request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_model());
}

absl::StatusOr<std::vector<v1::ModelVersion>> Client::ListModelVersions(
    const std::string& model) {
  std::vector<v1::ModelVersion> versions;
  v1::ListModelVersionsRequest request;
  request.set_model(model);
  do {
    auto page =
        Unary<v1::ListModelVersionsRequest, v1::ListModelVersionsResponse>(
            *session_,
            [this](grpc::ClientContext* context, const auto& in, auto* out) {
              return session_->model->ListModelVersions(context, in, out);
            },
            request);
    if (!page.ok()) return page.status();
    for (v1::ModelVersion& version : *page->mutable_versions()) {
      versions.push_back(std::move(version));
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return versions;
}

absl::StatusOr<v1::SampleResponse> Client::Sample(
    const v1::SampleRequest& request) {
  auto response = Unary<v1::SampleRequest, v1::SampleResponse>(
      *session_,
      [this](grpc::ClientContext* context, const auto& in, auto* out) {
        return session_->sampler->Sample(context, in, out);
      },
      request);
  if (!response.ok()) return response;
  DrawBlock block;
  if (absl::Status s =
          Decode(response->block(),
                 MakeShape(response->provenance().lattice(), request.content()),
                 &block);
      !s.ok()) {
    return s;
  }
  return response;
}

SampleReader Client::StreamSamples(const v1::StreamSamplesRequest& request) {
  return SampleReader(session_, request);
}

ChainReader Client::RunChain(const v1::RunChainRequest& request) {
  return ChainReader(session_, request);
}

Evaluator Client::Evaluate(const v1::ModelSelector& model) {
  return Evaluator(session_, model);
}

MeasureReader Client::Measure(const v1::MeasureRequest& request) {
  return MeasureReader(session_, request);
}

}  // namespace latticed
