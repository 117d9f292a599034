// TLS with real certificates: who is let in, and rotation under traffic.
#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "latticed/v1/admin.grpc.pb.h"
#include "tests/server/certificates.h"
#include "tests/server/health_client.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Issue = CertificateAuthority::Options;

struct Identity {
  std::string ca;                // that the client trusts
  CertificateFiles certificate;  // empty: it shows none
  std::string name = "localhost";
};

std::shared_ptr<grpc::Channel> ConnectTls(int port, const Identity& identity) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = FileText(identity.ca);
  if (!identity.certificate.key.empty()) {
    options.pem_private_key = FileText(identity.certificate.key);
    options.pem_cert_chain = FileText(identity.certificate.certificate);
  }
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetSslTargetNameOverride(identity.name);
  return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port),
                                   grpc::SslCredentials(options), arguments);
}

grpc::Status ListModels(const std::shared_ptr<grpc::Channel>& channel,
                        bool wait_for_ready = true) {
  grpc::ClientContext context;
  context.set_wait_for_ready(wait_for_ready);
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(10));
  v1::ListModelsResponse response;
  return v1::ModelService::NewStub(channel)->ListModels(
      &context, v1::ListModelsRequest(), &response);
}

// UNAVAILABLE by the first handshake of each of three connections: calls fail
// fast. One alone may fail by chance (Connect says how).
bool Refused(int port, const Identity& identity) {
  for (int i = 0; i < 3; ++i) {
    if (ListModels(ConnectTls(port, identity), /*wait_for_ready=*/false)
            .error_code() != grpc::StatusCode::UNAVAILABLE) {
      return false;
    }
  }
  return true;
}

// A new certificate in place of an old one, file by file as certbot does.
void Replace(const CertificateFiles& with, const CertificateFiles& place) {
  for (const auto& [from, to] :
       {std::pair(with.key, place.key),
        std::pair(with.certificate, place.certificate)}) {
    WriteFileText(to + ".new", FileText(from));
    std::filesystem::rename(to + ".new", to);
  }
}

std::string ServedSubject(int port) {
  return Shell(absl::StrCat("openssl s_client -connect 127.0.0.1:", port,
                            " -alpn h2 </dev/null 2>/dev/null | openssl x509 "
                            "-noout -subject"));
}

class Tls : public ::testing::Test {
 protected:
  Tls() : config_(TestConfig(repository_.path())) {
    PublishToy(repository_.path(), ToyFlow());
    certificate_ = ca_.Issue({});
    config_.tls_certificate_file = certificate_.certificate;
    config_.tls_key_file = certificate_.key;
    config_.credentials_seconds = 0.1;
  }

  std::string StartError() {
    const absl::Status valid = Validate(config_);
    if (!valid.ok()) return std::string(valid.message());
    return std::string(
        Server::Start(config_, ToySamplers(), nullptr).status().message());
  }

  CertificateAuthority ca_;
  TemporaryDirectory repository_;
  Config config_;
  CertificateFiles certificate_;
};

TEST_F(Tls, ServesWhoeverTrustsTheAuthority) {
  const auto server = StartServer(config_);
  ASSERT_NE(server, nullptr);
  const Identity trusting = {.ca = ca_.certificate()};
  const auto channel = ConnectTls(server->grpc_port(), trusting);
  EXPECT_TRUE(ListModels(channel).ok());
  EXPECT_TRUE(Stream(channel, DrawsOf("toy", "s", 0, 100)).status.ok());
  EXPECT_EQ(HealthClient(channel).Check(""), "SERVING");
  EXPECT_TRUE(ListModels(ConnectTls(server->grpc_port(), trusting)).ok());
  // The admin listener has the same certificate.
  EXPECT_EQ(ListModels(ConnectTls(server->admin_port(), trusting)).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  // Not without TLS.
  const auto plain =
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", server->grpc_port()),
                          grpc::InsecureChannelCredentials());
  EXPECT_EQ(ListModels(plain, /*wait_for_ready=*/false).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  const std::string text = HttpGet(server->http_port(), "/metrics");
  // 2099-01-01
  EXPECT_EQ(MetricValue(text,
                        "latticed_tls_certificate_expiry_timestamp_"
                        "seconds"),
            4070908800);
}

TEST_F(Tls, AClientRefusesAServerItHasNoReasonToTrust) {
  const auto server = StartServer(config_);
  ASSERT_NE(server, nullptr);
  CertificateAuthority other;
  EXPECT_TRUE(Refused(server->grpc_port(), {.ca = other.certificate()}));
  EXPECT_TRUE(Refused(server->grpc_port(),
                      {.ca = ca_.certificate(), .name = "elsewhere.test"}));
  EXPECT_FALSE(Refused(server->grpc_port(), {.ca = ca_.certificate()}));

  // What our server would not start with, served by a plain gRPC server.
  const auto refused = [&](const Issue& issue, const std::string& ca) {
    const CertificateFiles files = ca_.Issue(issue);
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs.push_back(
        {FileText(files.key), FileText(files.certificate)});
    int port = 0;
    v1::ModelService::Service service;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options),
                             &port);
    builder.RegisterService(&service);
    const auto plain = builder.BuildAndStart();
    ClientOptions client;
    client.retry.connect = absl::Milliseconds(200);
    client.tls.ca_file = ca;
    client.tls.server_name = "localhost";
    const auto models =
        (*Client::Connect(absl::StrCat("127.0.0.1:", port), client))
            ->ListModels();
    const bool by_client = absl::IsUnavailable(models.status());
    EXPECT_EQ(by_client, Refused(port, {.ca = ca}));
    plain->Shutdown(std::chrono::system_clock::now());
    return by_client;
  };
  EXPECT_FALSE(refused({}, ca_.certificate())) << "the control";
  EXPECT_TRUE(refused({.end = "20240101000000Z"}, ca_.certificate()));
  EXPECT_TRUE(refused({.start = "20980101000000Z"}, ca_.certificate()));
  EXPECT_TRUE(
      refused({.alternative_names = "DNS:other.test"}, ca_.certificate()));
  EXPECT_TRUE(refused({.self_signed = true}, ca_.certificate()));
}

TEST_F(Tls, WithAnAuthorityForClientsEveryoneShowsACertificate) {
  config_.tls_client_ca_file = ca_.certificate();
  const auto server = StartServer(config_);
  ASSERT_NE(server, nullptr);
  const int port = server->grpc_port();
  const auto with = [&](const Issue& issue, CertificateAuthority* by) {
    return Identity{.ca = ca_.certificate(), .certificate = by->Issue(issue)};
  };
  EXPECT_FALSE(Refused(port, with({.common_name = "node7"}, &ca_)));
  EXPECT_TRUE(Refused(port, {.ca = ca_.certificate()})) << "none at all";
  EXPECT_TRUE(Refused(port, with({.end = "20240101000000Z"}, &ca_)));
  EXPECT_TRUE(Refused(port, with({.start = "20980101000000Z"}, &ca_)));
  EXPECT_TRUE(Refused(port, with({.self_signed = true}, &ca_)));
  CertificateAuthority other;
  EXPECT_TRUE(Refused(port, with({}, &other)));
  // A sampler, and no more, unless a token file says so.
  const auto channel =
      ConnectTls(server->admin_port(), with({.common_name = "node7"}, &ca_));
  grpc::ClientContext context;
  v1::GetServerInfoResponse response;
  EXPECT_EQ(CodeAndReason(v1::AdminService::NewStub(channel)->GetServerInfo(
                &context, v1::GetServerInfoRequest(), &response)),
            "PERMISSION_DENIED ROLE_REQUIRED");
}

TEST_F(Tls, NamesOfCertificatesAreLookedUpInTheTokenFile) {
  config_.tls_client_ca_file = ca_.certificate();
  config_.token_file = ca_.File("tokens");
  WriteFileText(config_.token_file,
                "cn:node7 sampler\ncn:watch.test observer\n");
  const auto server = StartServer(config_);
  ASSERT_NE(server, nullptr);
  const auto draw = [&](const Issue& issue) {
    const auto channel =
        ConnectTls(server->grpc_port(),
                   {.ca = ca_.certificate(), .certificate = ca_.Issue(issue)});
    return CodeAndReason(Stream(channel, DrawsOf("toy", "s", 0, 1)).status);
  };
  EXPECT_EQ(draw({.common_name = "node7"}), "OK ");
  EXPECT_EQ(draw({.common_name = "watch.test"}),
            "PERMISSION_DENIED ROLE_REQUIRED");
  EXPECT_EQ(draw({.common_name = "x", .alternative_names = "DNS:node7"}),
            "OK ");
  EXPECT_EQ(draw({.common_name = "stranger"}),
            "UNAUTHENTICATED UNAUTHENTICATED");
}

TEST_F(Tls, OldProtocolsAreNotSpoken) {
  const auto server = StartServer(config_);
  ASSERT_NE(server, nullptr);
  const auto speaks = [&](const std::string& version) {
    const std::string said = Shell(absl::StrCat(
        "openssl s_client -connect 127.0.0.1:", server->grpc_port(),
        " -alpn h2", " -cipher DEFAULT@SECLEVEL=0 ", version,
        " </dev/null; true"));
    return absl::StrContains(said, "Cipher is (NONE)") ? false
           : absl::StrContains(said, "Cipher is")      ? true
                                                  : (ADD_FAILURE() << said, 0);
  };
  EXPECT_FALSE(speaks("-tls1_1"));
  EXPECT_FALSE(speaks("-tls1"));
  EXPECT_TRUE(speaks("-tls1_2"));
  EXPECT_TRUE(speaks("-tls1_3"));
}

TEST_F(Tls, AStartWithBadFilesSaysWhich) {
  const Config good = config_;
  config_.tls_certificate_file = "";
  EXPECT_THAT(StartError(), HasSubstr("--tls_certificate_file is not set"));
  config_ = good;
  config_.tls_key_file = "";
  EXPECT_THAT(StartError(), HasSubstr("--tls_key_file is not set"));
  config_ = good;
  config_.tls_key_file = ca_.File("nowhere");
  EXPECT_THAT(StartError(), HasSubstr("--tls_key_file"));
  EXPECT_THAT(StartError(), HasSubstr("No such file"));
  config_.tls_key_file = ca_.Issue({}).key;
  EXPECT_THAT(StartError(), HasSubstr("is not the key of"));
  config_.tls_key_file = certificate_.certificate;
  WriteFileText(config_.tls_key_file, FileText(config_.tls_key_file), 0644);
  EXPECT_THAT(StartError(), HasSubstr("everyone on this machine"));
  config_.tls_key_file = ca_.File("noise");
  WriteFileText(config_.tls_key_file, "no key at all");
  EXPECT_THAT(StartError(), HasSubstr("no private key"));
  config_ = good;
  const CertificateFiles expired = ca_.Issue({.end = "20240101000000Z"});
  config_.tls_certificate_file = expired.certificate;
  config_.tls_key_file = expired.key;
  EXPECT_THAT(StartError(), HasSubstr("expired at 2024-01-01"));
  const CertificateFiles early = ca_.Issue({.start = "20980101000000Z"});
  config_.tls_certificate_file = early.certificate;
  config_.tls_key_file = early.key;
  EXPECT_THAT(StartError(), HasSubstr("not valid before 2098-01-01"));
  config_ = good;
  config_.tls_certificate_file = ca_.File("half");
  const std::string pem = FileText(good.tls_certificate_file);
  WriteFileText(config_.tls_certificate_file, pem.substr(0, pem.size() / 2));
  EXPECT_THAT(StartError(), HasSubstr("holds no certificate"));
  config_ = good;
  config_.tls_client_ca_file = ca_.File("noise");
  EXPECT_THAT(StartError(), HasSubstr("--tls_client_ca_file"));
  config_ = good;
  EXPECT_EQ(StartError(), "") << "the control";
}

// Three new certificates and a broken one while unary calls, on connections
// old and new, and streams run: nothing fails, and the last one is served.
TEST_F(Tls, CertificatesAreReplacedUnderTraffic) {
  const bool longer = std::getenv("LATTICED_LONG_TESTS") != nullptr;
  const auto server = StartServer(config_);
  ASSERT_NE(server, nullptr);
  const int port = server->grpc_port();
  const Identity trusting = {.ca = ca_.certificate()};
  const auto reloads = [&](const std::string& result) {
    return MetricValue(server->metrics().Text(),
                       "latticed_credential_reloads_total{file=\"certificate\","
                       "result=\"" +
                           result + "\"}");
  };
  std::atomic<bool> stop = false;
  std::atomic<int> calls = 0;
  std::atomic<int> handshakes = 0;
  std::atomic<int> streams = 0;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    const auto channel = ConnectTls(port, trusting);
    while (!stop) {
      const grpc::Status status = ListModels(channel, false);
      EXPECT_TRUE(status.ok()) << status.error_message();
      ++calls;
    }
  });
  threads.emplace_back([&] {
    while (!stop) {
      const grpc::Status status = ListModels(ConnectTls(port, trusting), false);
      EXPECT_TRUE(status.ok()) << status.error_message();
      ++handshakes;
    }
  });
  threads.emplace_back([&] {
    const auto channel = ConnectTls(port, trusting);
    while (!stop) {
      const grpc::Status status =
          Stream(channel, DrawsOf("toy", "s", 0, 20000)).status;
      EXPECT_TRUE(status.ok()) << status.error_message();
      ++streams;
    }
  });
  EXPECT_THAT(ServedSubject(port), HasSubstr("server.test"));
  const int rounds = longer ? 30 : 3;
  for (int round = 1; round <= rounds; ++round) {
    const std::string name = absl::StrCat("round", round, ".test");
    Replace(ca_.Issue({.common_name = name}), certificate_);
    const int before = handshakes;
    EXPECT_TRUE(Eventually(
        [&] { return absl::StrContains(ServedSubject(port), name); }));
    EXPECT_TRUE(Eventually([&] { return handshakes > before + 3; }));
  }
  const double taken = reloads("ok");
  EXPECT_GE(taken, rounds);
  const double refused = reloads("refused");
  WriteFileText(certificate_.key, FileText(ca_.Issue({}).key));
  EXPECT_TRUE(Eventually([&] { return reloads("refused") > refused; }));
  WriteFileText(certificate_.certificate, "");
  EXPECT_TRUE(Eventually([&] { return reloads("refused") > refused + 1; }));
  std::filesystem::remove(certificate_.certificate);
  EXPECT_TRUE(Eventually([&] { return reloads("refused") > refused + 2; }));
  const int before = handshakes;
  EXPECT_TRUE(Eventually([&] { return handshakes > before + 3; }));
  EXPECT_THAT(ServedSubject(port),
              HasSubstr(absl::StrCat("round", rounds, ".test")));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(reloads("ok"), taken);
  EXPECT_GT(calls, 100);
  EXPECT_GT(streams, 1);
}

}  // namespace
}  // namespace latticed
