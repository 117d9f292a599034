// Tokens, roles, the admin listener and quotas per principal.
#include "server/auth.h"

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/wire/digest.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "grpcpp/generic/generic_stub.h"
#include "latticed/v1/admin.grpc.pb.h"
#include "server/quota.h"
#include "tests/server/certificates.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const char kSampler[] = "sampler-token-0123456789abcdef";
const char kObserver[] = "observer-token-0123456789abcdef";
const char kAdmin[] = "admin-token-0123456789abcdef";
const char kExpired[] = "expired-token-0123456789abcdef";

std::string Line(const std::string& name, const std::string& role,
                 const std::string& token, const std::string& rest = "") {
  return absl::StrCat(name, " ", role, " ", Sha256Hex(token), " ", rest, "\n");
}

std::string TokenLines() {
  return absl::StrCat(
      "# who may do what\n\n", Line("alice", "sampler", kSampler),
      Line("watch", "observer", kObserver),
      Line("ops", "admin", kAdmin, "# all of it"),
      Line("old", "admin", kExpired, "expires=2024-01-01T00:00:00Z"));
}

using Metadata = std::vector<std::pair<std::string, std::string>>;

Metadata Bearer(const std::string& token) {
  return {{"authorization", absl::StrCat("Bearer ", token)}};
}

// Any method of any kind with an empty request.
grpc::Status RawCall(const std::shared_ptr<grpc::Channel>& channel,
                     const std::string& path, const Metadata& metadata) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(10));
  for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  const auto next = [&] { return queue.Next(&tag, &ok) && ok; };
  const auto call = stub.PrepareCall(&context, path, &queue);
  call->StartCall(nullptr);
  if (next()) {
    grpc::ByteBuffer request;
    const grpc::Slice nothing;
    request = grpc::ByteBuffer(&nothing, 1);
    call->WriteLast(request, grpc::WriteOptions(), nullptr);
    next();
    grpc::ByteBuffer response;
    do {
      call->Read(&response, nullptr);
    } while (next());
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  queue.Shutdown();
  return status;
}

TEST(TokenFile, IsReadAsDocumented) {
  const auto principals = ParsePrincipals(TokenLines() + "cn:node7 observer");
  ASSERT_THAT(principals, IsOk());
  ASSERT_EQ(principals->size(), 5u);
  EXPECT_EQ((*principals)[0].name, "alice");
  EXPECT_EQ((*principals)[0].role, Role::kSampler);
  EXPECT_EQ((*principals)[0].sha256, Sha256(kSampler));
  EXPECT_EQ((*principals)[0].expires, absl::InfiniteFuture());
  EXPECT_EQ((*principals)[3].expires,
            absl::FromCivil(absl::CivilDay(2024, 1, 1), absl::UTCTimeZone()));
  EXPECT_EQ((*principals)[4].name, "cn:node7");
  EXPECT_THAT((*principals)[4].sha256, IsEmpty());
}

TEST(TokenFile, ABadLineIsNamedWithoutItsDigest) {
  const std::string digest = Sha256Hex("secret");
  for (const std::string& line : std::vector<std::string>{
           "alice", "alice sampler", "alice sampler 1234",
           "al/ice sampler " + digest, "alice king " + digest,
           "alice sampler " + digest + " expires=tomorrow",
           "alice sampler " + digest + " 2030-01-01T00:00:00Z",
           "alice sampler " + digest + " expires=2030-01-01T00:00:00Z more",
           "alice sampler " + digest + "0", "cn:node7 sampler " + digest,
           std::string(65, 'a') + " sampler " + digest,
           std::string("a\0b sampler ", 12) + digest}) {
    const auto parsed = ParsePrincipals("# first\n" + line + "\n");
    EXPECT_THAT(parsed.status(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("line 2")))
        << line;
    EXPECT_THAT(std::string(parsed.status().message()), Not(HasSubstr(digest)));
  }
  std::string many;
  for (size_t i = 0; i < kTokenFileLinesMax; ++i) {
    many += Line(absl::StrCat("user", i), "sampler", "x");
  }
  EXPECT_THAT(ParsePrincipals(many), IsOk());
  EXPECT_THAT(ParsePrincipals(many + "#\n#\n"), Not(IsOk()));
}

class Auth : public ::testing::Test {
 protected:
  Auth() : config_(TestConfig(repository_.path())) {
    PublishToy(repository_.path(), ToyFlow());
    config_.token_file = directory_.File("tokens");
    config_.credentials_seconds = 0.05;
    WriteFileText(config_.token_file, TokenLines());
  }

  void Start() {
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
    channel_ = Connect(server_->grpc_port());
    admin_ = Connect(server_->admin_port());
  }

  std::string List(const Metadata& metadata) {
    return CodeAndReason(
        RawCall(channel_, "/latticed.v1.ModelService/ListModels", metadata));
  }

  grpc::Status Draw(const std::string& token, uint64_t count) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
    const auto stub = v1::SamplerService::NewStub(channel_);
    const auto reader =
        stub->StreamSamples(&context, DrawsOf("toy", "s", 0, count));
    v1::StreamSamplesResponse response;
    drawn_ = 0;
    while (reader->Read(&response)) drawn_ += response.block().count();
    return reader->Finish();
  }

  double Failures(const std::string& reason) {
    return MetricValue(
        server_->metrics().Text(),
        "latticed_auth_failures_total{reason=\"" + reason + "\"}");
  }

  TemporaryDirectory repository_;
  TemporaryDirectory directory_;
  Config config_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<grpc::Channel> admin_;
  uint64_t drawn_ = 0;
};

TEST_F(Auth, OnlyAGoodTokenOpens) {
  Start();
  EXPECT_EQ(List(Bearer(kSampler)), "OK ");
  EXPECT_EQ(List({{"authorization", absl::StrCat("bearer ", kSampler)}}),
            "OK ");
  EXPECT_EQ(List({}), "UNAUTHENTICATED UNAUTHENTICATED");
  EXPECT_EQ(Failures("missing"), 1);
  for (const Metadata& malformed :
       {Metadata{{"authorization", kSampler}},
        Metadata{{"authorization", absl::StrCat("Basic ", kSampler)}},
        Metadata{{"authorization", "Bearer "}},
        Metadata{{"authorization", "Bearer"}},
        Metadata{{"authorization", absl::StrCat("Bearer ", kSampler)},
                 {"authorization", absl::StrCat("Bearer ", kSampler)}},
        Bearer(std::string(5000, 'x'))}) {
    EXPECT_EQ(List(malformed), "UNAUTHENTICATED UNAUTHENTICATED");
  }
  EXPECT_EQ(Failures("malformed"), 6);
  EXPECT_EQ(List(Bearer("unknown")), "UNAUTHENTICATED UNAUTHENTICATED");
  EXPECT_EQ(List(Bearer(absl::StrCat(kSampler, "x"))),
            "UNAUTHENTICATED UNAUTHENTICATED");
  // A digest opens nothing.
  EXPECT_EQ(List(Bearer(Sha256Hex(kSampler))),
            "UNAUTHENTICATED UNAUTHENTICATED");
  EXPECT_EQ(Failures("unknown"), 3);
  EXPECT_EQ(List(Bearer(kExpired)), "UNAUTHENTICATED TOKEN_EXPIRED");
  EXPECT_EQ(Failures("expired"), 1);
  EXPECT_EQ(CodeAndReason(Draw(kObserver, 1)),
            "PERMISSION_DENIED ROLE_REQUIRED");
  EXPECT_EQ(Failures("role"), 1);
  EXPECT_TRUE(Draw(kSampler, 1).ok());
  EXPECT_EQ(drawn_, 1u);
  EXPECT_TRUE(Draw(kAdmin, 1).ok());
}

// gRPC itself refuses them: 8 KiB is all the metadata of a call.
TEST_F(Auth, AnOversizedHeaderIsRefused) {
  Start();
  const grpc::Status status = RawCall(
      Connect(server_->grpc_port()), "/latticed.v1.ModelService/ListModels",
      Bearer(std::string(size_t{9} << 10, 'x')));
  // Which of the two comes first is gRPC's affair: the refusal, or the end of
  // the connection.
  EXPECT_THAT(status.error_code(),
              testing::AnyOf(grpc::StatusCode::RESOURCE_EXHAUSTED,
                             grpc::StatusCode::UNAVAILABLE))
      << status.error_message();
  EXPECT_EQ(List(Bearer(kSampler)), "OK ");
}

// Whatever a method is called, it asks who calls, but for health: what balances
// calls cannot show a token. A method that this server does not have gives
// nothing away.
TEST_F(Auth, EveryMethodAsks) {
  config_.calls_per_peer_max = 1;
  Start();
  std::vector<std::string> paths = {
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      "/grpc.channelz.v1.Channelz/GetServers"};
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  for (const char* name : {"SamplerService", "ChainService", "MeasureService",
                           "ModelService", "AdminService"}) {
    const auto* service =
        pool->FindServiceByName(absl::StrCat("latticed.v1.", name));
    ASSERT_NE(service, nullptr) << name;
    for (int i = 0; i < service->method_count(); ++i) {
      paths.push_back(
          absl::StrCat("/latticed.v1.", name, "/", service->method(i)->name()));
    }
  }
  EXPECT_GT(paths.size(), 18u);
  int asked = 0;
  for (const std::string& path : paths) {
    const bool of_admin = absl::StrContains(path, "AdminService") ||
                          absl::StrContains(path, "reflection") ||
                          absl::StrContains(path, "channelz");
    const auto& channel = of_admin ? admin_ : channel_;
    // So that failures are not turned away for their number.
    absl::SleepFor(absl::Milliseconds(50));
    for (const Metadata& metadata :
         {Metadata(), Bearer(of_admin ? kSampler : "unknown")}) {
      const grpc::StatusCode code =
          RawCall(channel, path, metadata).error_code();
      if (code == grpc::StatusCode::UNIMPLEMENTED) continue;
      EXPECT_TRUE(code == grpc::StatusCode::UNAUTHENTICATED ||
                  code == grpc::StatusCode::RESOURCE_EXHAUSTED ||
                  (of_admin && code == grpc::StatusCode::PERMISSION_DENIED))
          << path << " " << code;
      ++asked;
    }
  }
  EXPECT_GE(asked, 22);
  for (const Metadata& metadata : {Metadata(), Bearer("unknown")}) {
    EXPECT_EQ(RawCall(channel_, "/grpc.health.v1.Health/Check", metadata)
                  .error_code(),
              grpc::StatusCode::OK);
  }
}

TEST_F(Auth, ATokenFileIsReadAgain) {
  Start();
  EXPECT_EQ(List(Bearer(kSampler)), "OK ");
  // Revoked, and a new token for the same name.
  WriteFileText(config_.token_file, Line("alice", "sampler", "fresh"));
  EXPECT_TRUE(Eventually([&] { return List(Bearer("fresh")) == "OK "; }));
  EXPECT_THAT(List(Bearer(kSampler)), HasSubstr("UNAUTHENTICATED"));
  // What cannot be taken changes nothing, and is counted once.
  const auto refused = [&] {
    return MetricValue(server_->metrics().Text(),
                       "latticed_credential_reloads_total{file=\"tokens\","
                       "result=\"refused\"}");
  };
  WriteFileText(config_.token_file, "alice sampler not-a-digest\n");
  EXPECT_TRUE(Eventually([&] { return refused() == 1; }));
  EXPECT_EQ(List(Bearer("fresh")), "OK ");
  WriteFileText(config_.token_file, TokenLines(), 0644);
  EXPECT_TRUE(Eventually([&] { return refused() == 2; }));
  EXPECT_EQ(List(Bearer("fresh")), "OK ");
  std::filesystem::remove(config_.token_file);
  EXPECT_TRUE(Eventually([&] { return refused() == 3; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(refused(), 3);
  EXPECT_EQ(List(Bearer("fresh")), "OK ");
  WriteFileText(config_.token_file, TokenLines());
  EXPECT_TRUE(Eventually([&] { return List(Bearer(kSampler)) == "OK "; }));
}

TEST_F(Auth, AStartWithABadTokenFileSaysWhy) {
  const auto error = [&] {
    return std::string(
        Server::Start(config_, ToySamplers(), nullptr).status().message());
  };
  EXPECT_EQ(error(), "") << "the control";
  chmod(config_.token_file.c_str(), 0644);
  EXPECT_THAT(error(), HasSubstr("everyone on this machine"));
  WriteFileText(config_.token_file, "x\n");
  EXPECT_THAT(error(), HasSubstr("line 1"));
  config_.token_file = directory_.path();
  EXPECT_THAT(error(), HasSubstr("no regular file"));
  config_.token_file = directory_.File("nowhere");
  EXPECT_THAT(error(), HasSubstr("--token_file"));
}

TEST_F(Auth, SecretsReachNoOutput) {
  ::testing::internal::CaptureStderr();
  Start();
  List(Bearer(kSampler));
  List(Bearer("unknown-but-secret"));
  List(Bearer(kExpired));
  WriteFileText(config_.token_file,
                TokenLines() + "bad sampler " + Sha256Hex("q") + "zz\n");
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(server_->metrics().Text(),
                             "file=\"tokens\",result=\"refused\"} 1");
  }));
  grpc::ClientContext context;
  context.AddMetadata("authorization", absl::StrCat("Bearer ", kAdmin));
  v1::GetServerInfoResponse info;
  EXPECT_TRUE(v1::AdminService::NewStub(admin_)
                  ->GetServerInfo(&context, v1::GetServerInfoRequest(), &info)
                  .ok());
  EXPECT_EQ(info.config().at("token_file"), config_.token_file);
  EXPECT_GT(info.uptime_seconds(), 0);
  EXPECT_THAT(info.numerics_mode(), HasSubstr("float32"));
  const std::string output = absl::StrCat(
      ::testing::internal::GetCapturedStderr(), server_->metrics().Text(),
      info.DebugString(), HttpGet(server_->http_port(), "/"),
      HttpGet(server_->http_port(), "/status.json"));
  EXPECT_THAT(output, HasSubstr("refused a call"));
  for (const char* secret :
       {kSampler, kObserver, kAdmin, kExpired, "unknown-but-secret"}) {
    EXPECT_THAT(output, Not(HasSubstr(secret)));
    EXPECT_THAT(output, Not(HasSubstr(Sha256Hex(secret))));
  }
  EXPECT_THAT(output, Not(HasSubstr(Sha256Hex("q"))));
}

// Failures of one peer are limited, right credentials are not.
TEST_F(Auth, FailuresAreLimitedByPeer) {
  const auto metrics = std::make_shared<Metrics>();
  const auto authorizer =
      *Authorizer::Create(config_.token_file, false, metrics);
  const absl::Time now = absl::Now();
  std::string principal;
  const auto check = [&](const std::string& token, const std::string& peer,
                         absl::Time at) {
    return CodeAndReason(
        authorizer->Check({.authorization = {"Bearer " + token}}, peer,
                          Role::kSampler, at, &principal));
  };
  for (int i = 0; i < Authorizer::kFailuresBurst; ++i) {
    EXPECT_EQ(check("wrong", "a", now), "UNAUTHENTICATED UNAUTHENTICATED");
  }
  EXPECT_EQ(check("wrong", "a", now), "RESOURCE_EXHAUSTED AUTH_FAILURES");
  EXPECT_EQ(check("wrong", "b", now), "UNAUTHENTICATED UNAUTHENTICATED");
  EXPECT_EQ(check(kSampler, "a", now), "OK ");
  EXPECT_EQ(principal, "alice");
  EXPECT_EQ(check("wrong", "a", now + absl::Seconds(2)),
            "UNAUTHENTICATED UNAUTHENTICATED");
  // As many peers as anyone likes take bounded memory and no time.
  for (size_t i = 0; i < 2 * Authorizer::kPeersMax; ++i) {
    check("wrong", absl::StrCat("peer", i), now);
  }
}

TEST_F(Auth, AnAdminSeesAndDrainsTheServer) {
  std::atomic<int> asked = 0;
  auto server = Server::Start(config_, ToySamplers(), nullptr,
                              [&](EndReason) { ++asked; });
  ASSERT_THAT(server, IsOk());
  const auto channel = Connect((*server)->admin_port());
  const auto call = [&](const std::string& path, const std::string& token) {
    return RawCall(channel, path, Bearer(token)).error_code();
  };
  const std::string drain = "/latticed.v1.AdminService/DrainServer";
  EXPECT_EQ(call(drain, kSampler), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(call(drain, kAdmin), grpc::StatusCode::OK);
  EXPECT_EQ(call(drain, kAdmin), grpc::StatusCode::OK);
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(call("/grpc.channelz.v1.Channelz/GetServers", kAdmin),
            grpc::StatusCode::OK);
  // None of it on the listener of clients.
  const auto data = Connect((*server)->grpc_port());
  for (const char* path :
       {"/latticed.v1.AdminService/DrainServer",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}) {
    EXPECT_EQ(RawCall(data, path, Bearer(kAdmin)).error_code(),
              grpc::StatusCode::UNIMPLEMENTED)
        << path;
  }
}

TEST_F(Auth, WithoutTokensOnLoopbackEveryoneMayDoEverything) {
  config_.token_file = "";
  Start();
  EXPECT_EQ(List({}), "OK ");
  // Nobody looks at what is shown all the same.
  EXPECT_EQ(List(Bearer("whatever")), "OK ");
  EXPECT_TRUE(
      RawCall(admin_, "/latticed.v1.AdminService/GetServerInfo", {}).ok());
  config_.admin_listen = "";
  const auto without = StartServer(config_);
  ASSERT_NE(without, nullptr);
  EXPECT_EQ(without->admin_port(), 0);
}

TEST(RemoteAddresses, NeedTlsAndAuthentication) {
  Config config = TestConfig("repository");
  const auto message = [&] { return std::string(Validate(config).message()); };
  config.listen = "0.0.0.0:7410";
  EXPECT_THAT(message(), HasSubstr("TLS"));
  config.tls_certificate_file = "certificate";
  config.tls_key_file = "key";
  EXPECT_THAT(message(), HasSubstr("that needs authentication"));
  config.token_file = "tokens";
  EXPECT_EQ(message(), "");
  config.admin_listen = "0.0.0.0:7411";
  EXPECT_EQ(message(), "");
  config.http_listen = "0.0.0.0:7412";
  EXPECT_THAT(message(), HasSubstr("--http_listen"));
  config.http_listen = "127.0.0.1:7412";
  config.token_file = "";
  config.tls_client_ca_file = "ca";
  EXPECT_EQ(message(), "");
  config.tls_certificate_file = config.tls_key_file = "";
  EXPECT_THAT(message(), HasSubstr("--tls_client_ca_file"));
  config.tls_client_ca_file = "";
  config.token_file = "tokens";
  EXPECT_THAT(message(), HasSubstr("TLS"));
  config.insecure_allow_remote = true;
  EXPECT_EQ(message(), "");
}

TEST(Quota, IsATokenBucketWithDebt) {
  DrawQuota quota(100);  // holds 1000
  const DrawQuota::Time start{};
  const auto at = [&](double seconds) {
    return start + std::chrono::milliseconds(static_cast<int>(1000 * seconds));
  };
  EXPECT_TRUE(quota.Take("a", 600, at(0)).ok());
  EXPECT_TRUE(quota.Take("a", 600, at(0)).ok());  // 200 in debt
  const grpc::Status refused = quota.Take("a", 1, at(0));
  EXPECT_EQ(CodeAndReason(refused), "RESOURCE_EXHAUSTED QUOTA");
  // Two seconds to pay, one to have a second's worth.
  EXPECT_EQ(PartsOf(refused).retry->retry_delay().seconds(), 3);
  EXPECT_FALSE(quota.Take("a", 1, at(2)).ok());
  EXPECT_TRUE(quota.Take("a", 1, at(3)).ok());
  EXPECT_TRUE(quota.Take("b", 1, at(0)).ok()) << "another principal";
  // What is not used is not saved beyond the bucket.
  EXPECT_TRUE(quota.Take("b", 1500, at(1000)).ok());
  EXPECT_FALSE(quota.Take("b", 1, at(1004.9)).ok());
  EXPECT_TRUE(quota.Take("b", 1, at(1005.1)).ok());
  // Any number of principals is bounded, and those in debt are kept.
  EXPECT_TRUE(quota.Take("debtor", 100000, at(2000)).ok());
  for (int i = 0; i < 10000; ++i) {
    EXPECT_TRUE(quota.Take(absl::StrCat(i), 1, at(2000)).ok());
  }
  EXPECT_FALSE(quota.Take("debtor", 1, at(2000)).ok());
  EXPECT_TRUE(DrawQuota(0).Take("a", 1 << 30, at(0)).ok());
}

// Two principals at one address: each has its own share.
TEST_F(Auth, QuotasAreOfPrincipalsNotOfAddresses) {
  config_.draws_per_second_per_principal = 1000;
  config_.calls_per_peer_max = 1;
  Start();
  // The bucket holds 10000 and what comes in meanwhile; a block of 1 MiB of
  // this lattice is some 13000 draws: the second or third is refused.
  const grpc::Status status = Draw(kSampler, 200000);
  EXPECT_EQ(CodeAndReason(status), "RESOURCE_EXHAUSTED QUOTA");
  EXPECT_GT(drawn_, 0u);
  EXPECT_LT(drawn_, 100000u);
  ASSERT_TRUE(PartsOf(status).retry.has_value());
  EXPECT_EQ(PartsOf(status).info.metadata().at("principal"), "alice");
  EXPECT_EQ(CodeAndReason(Draw(kSampler, 1)), "RESOURCE_EXHAUSTED QUOTA");
  EXPECT_TRUE(Draw(kAdmin, 1).ok());
  EXPECT_GE(MetricValue(server_->metrics().Text(),
                        "latticed_rpc_rejected_total{reason=\"quota\"}"),
            2);
}

TEST_F(Auth, CallsAreLimitedByPrincipal) {
  config_.calls_per_peer_max = 1;
  Start();
  grpc::ClientContext context;
  context.AddMetadata("authorization", absl::StrCat("Bearer ", kSampler));
  const auto stub = v1::SamplerService::NewStub(channel_);
  const auto held =
      stub->StreamSamples(&context, DrawsOf("toy", "s", 0, 1 << 30));
  v1::StreamSamplesResponse response;
  ASSERT_TRUE(held->Read(&response));
  const grpc::Status status = Draw(kSampler, 1);
  EXPECT_EQ(CodeAndReason(status), "RESOURCE_EXHAUSTED QUOTA");
  EXPECT_TRUE(PartsOf(status).retry.has_value());
  EXPECT_TRUE(Draw(kAdmin, 1).ok());
  context.TryCancel();
}

}  // namespace
}  // namespace latticed
