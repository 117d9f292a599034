// Replicas that compare their draws, over real connections.
#include "core/wire/digest.h"
#include "gmock/gmock.h"
#include "server/log.h"
#include "tests/server/certificates.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

class Audit : public ::testing::Test {
 protected:
  void SetUp() override {
    PublishToy(repository_.path(), ToyFlow());
    peer_config_ = TestConfig(repository_.path());
    config_ = TestConfig(repository_.path());
    config_.audit_seconds = 0.05;
  }
  // A peer that draws the bits `numerics`, and a server that audits it.
  void Serve(int numerics) {
    auto peer =
        Server::Start(peer_config_, ToySamplers(numerics), ToyCouplings());
    ASSERT_THAT(peer, IsOk());
    peer_ = *std::move(peer);
    config_.audit_peers = "127.0.0.1:" + std::to_string(peer_->grpc_port());
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
  }
  double Value(const char* series) const {
    return MetricValue(server_->metrics().Text(), series);
  }

  TemporaryDirectory repository_;
  Config config_, peer_config_;
  std::unique_ptr<Server> peer_, server_;
};

constexpr char kAudits[] = "latticed_replica_audits_total{model=\"toy\"}";
constexpr char kMismatches[] =
    "latticed_replica_audit_mismatch_total{model=\"toy\"}";
constexpr char kFailures[] = "latticed_replica_audit_failures_total";

TEST_F(Audit, EqualReplicasAgree) {
  Serve(/*numerics=*/1);
  EXPECT_TRUE(Eventually([&] { return Value(kAudits) >= 5; }));
  EXPECT_EQ(Value(kMismatches), 0);
  EXPECT_EQ(Value(kFailures), 0);
  // What the audits draw is nobody's demand.
  EXPECT_EQ(Value("latticed_configurations_delivered_total{model=\"toy\"}"), 0);
}

TEST_F(Audit, AReplicaThatComputesOtherBitsIsFound) {
  const uint64_t errors = LogLines(LogLevel::kError);
  Serve(/*numerics=*/2);
  EXPECT_TRUE(Eventually([&] { return Value(kAudits) >= 3; }));
  const double audits = Value(kAudits);
  EXPECT_GE(Value(kMismatches), audits) << "each of them";
  EXPECT_TRUE(
      Eventually([&] { return LogLines(LogLevel::kError) >= errors + 3; }));
}

TEST_F(Audit, APeerThatIsAwayOrHasAnotherVersionIsNotCompared) {
  TemporaryDirectory other;
  ToyFlow flow;
  flow.scale = 1.2f;
  PublishToy(other.path(), flow);
  peer_config_ = TestConfig(other.path());
  const uint64_t warnings = LogLines(LogLevel::kWarning);
  Serve(/*numerics=*/1);
  EXPECT_TRUE(Eventually([&] { return Value(kFailures) >= 3; }));
  peer_ = nullptr;
  const double failures = Value(kFailures);
  EXPECT_TRUE(Eventually([&] { return Value(kFailures) >= failures + 2; }));
  EXPECT_EQ(Value(kAudits), 0);
  EXPECT_EQ(Value(kMismatches), 0);
  // Said once, however often it is tried; two are about chain-token keys.
  EXPECT_LE(LogLines(LogLevel::kWarning), warnings + 3);
}

TEST_F(Audit, PeersWithTlsAndTokensAreCompared) {
  CertificateAuthority authority;
  const CertificateFiles files = authority.Issue({});
  const std::string token = "a token of the audit test";
  WriteFileText(authority.File("tokens"),
                "auditor sampler " + Sha256Hex(token) + "\n");
  WriteFileText(authority.File("token"), token + "\n");
  peer_config_.tls_certificate_file = files.certificate;
  peer_config_.tls_key_file = files.key;
  peer_config_.token_file = authority.File("tokens");
  config_.audit_ca_file = authority.certificate();
  config_.audit_token_file = authority.File("token");
  Serve(/*numerics=*/1);
  EXPECT_TRUE(Eventually([&] { return Value(kAudits) >= 2; }));
  EXPECT_EQ(Value(kMismatches), 0);
}

TEST_F(Audit, BadSettingsNameTheFlag) {
  const auto error = [&](const Config& config) {
    const absl::Status valid = Validate(config);
    if (!valid.ok()) return std::string(valid.message());
    return std::string(
        Server::Start(config, ToySamplers(), nullptr).status().message());
  };
  Config config = config_;
  config.audit_peers = "nowhere";
  EXPECT_THAT(error(config), HasSubstr("--audit_peers"));
  for (const char* none : {",", " ", "a:1,", ":7410", "a:0", "a:65536"}) {
    config.audit_peers = none;
    EXPECT_THAT(error(config), HasSubstr("--audit_peers")) << none;
  }
  config.audit_peers = "replica-1.example.org:7410, [::1]:7410";
  EXPECT_THAT(Validate(config), IsOk());
  config.audit_peers = "10.0.0.1:7410";
  config.audit_token_file = "token";
  EXPECT_THAT(error(config), HasSubstr("unencrypted"));
  config.audit_ca_file = "/nonexistent/ca.pem";
  EXPECT_THAT(error(config), HasSubstr("--audit_ca_file"));
  config = config_;
  config.audit_seconds = 0;
  EXPECT_THAT(error(config), HasSubstr("--audit_seconds"));
}

}  // namespace
}  // namespace latticed
