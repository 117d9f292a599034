// Versions on their way through the gate, and back.
#include "server/lifecycle.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "gmock/gmock.h"
#include "latticed/v1/admin.grpc.pb.h"
#include "server/health.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

class LifecycleTest : public ::testing::Test {
 protected:
  LifecycleTest() : config_(TestConfig(repository_.path())) {
    config_.gate_draws = 8192;
    config_.state_directory = state_.path();
  }

  static ToyFlow Toy(float scale) {
    ToyFlow flow;
    flow.scale = scale;
    flow.tile = 128;
    return flow;
  }
  std::string Publish(const ToyFlow& flow) {
    return PublishToy(repository_.path(), flow).digest;
  }
  void Start() {
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
    channel_ = Connect(server_->grpc_port());
    models_ = v1::ModelService::NewStub(channel_);
  }
  void Restart() {
    server_ = nullptr;
    admin_ = nullptr;
    Start();
  }
  v1::ModelVersion Version(int64_t version) {
    grpc::ClientContext context;
    v1::GetModelVersionRequest request;
    request.mutable_model()->set_model("toy");
    request.mutable_model()->set_version(version);
    v1::GetModelVersionResponse response;
    models_->GetModelVersion(&context, request, &response);
    return response.version();
  }
  v1::AdminService::Stub* Admin() {
    if (admin_ == nullptr) {
      admin_ = v1::AdminService::NewStub(Connect(server_->admin_port()));
    }
    return admin_.get();
  }
  grpc::Status Promote(const std::string& digest) {
    grpc::ClientContext context;
    v1::PromoteModelVersionRequest request;
    request.set_model("toy");
    request.set_digest(digest);
    v1::PromoteModelVersionResponse response;
    return Admin()->PromoteModelVersion(&context, request, &response);
  }
  grpc::Status Rollback(const std::string& request_id = "") {
    grpc::ClientContext context;
    v1::RollbackModelRequest request;
    request.set_model("toy");
    request.set_request_id(request_id);
    v1::RollbackModelResponse response;
    return Admin()->RollbackModel(&context, request, &response);
  }
  grpc::Status Quarantine(const std::string& digest,
                          const std::string& reason) {
    grpc::ClientContext context;
    v1::QuarantineModelVersionRequest request;
    request.set_model("toy");
    request.set_digest(digest);
    request.set_reason(reason);
    v1::QuarantineModelVersionResponse response;
    return Admin()->QuarantineModelVersion(&context, request, &response);
  }
  grpc::Status Unquarantine(const std::string& digest) {
    grpc::ClientContext context;
    v1::UnquarantineModelVersionRequest request;
    request.set_model("toy");
    request.set_digest(digest);
    v1::UnquarantineModelVersionResponse response;
    return Admin()->UnquarantineModelVersion(&context, request, &response);
  }
  bool Becomes(int64_t version, v1::VersionState state) {
    return Eventually([&] { return Version(version).state() == state; });
  }
  bool Gated(int64_t version) {
    return Eventually([&] { return Version(version).has_gate(); });
  }
  int64_t LiveVersion() {
    return Stream(channel_, DrawsOf("toy", "s", 0, 1)).header.version();
  }
  std::string Page() { return HttpGet(server_->http_port(), "/metrics"); }
  double Loads(const std::string& result, const std::string& reason) {
    return MetricValue(Page(),
                       "latticed_model_loads_total{model=\"toy\","
                       "reason=\"" +
                           reason + "\",result=\"" + result + "\"}");
  }

  TemporaryDirectory repository_, state_;
  Config config_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
};

TEST_F(LifecycleTest, WithNothingLiveAVersionServesAtOnceAndIsGatedMeanwhile) {
  ToyFlow slow = Toy(1.05f);
  slow.delay_us = 5000;  // the gate's 64 + 32 tiles take half a second
  Publish(slow);
  Start();
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_FALSE(Version(1).has_gate());
  ASSERT_TRUE(Gated(1));
  const v1::GateReport gate = Version(1).gate();
  EXPECT_TRUE(gate.passed());
  EXPECT_EQ(gate.draws(), 8192);
  EXPECT_EQ(Version(1).state(), v1::VERSION_STATE_LIVE);
  EXPECT_TRUE(Eventually([&] {
    return std::abs(MetricValue(Page(),
                                "latticed_model_gate_ess_ratio{model="
                                "\"toy\",version=\"1\"}") -
                    gate.ess().value()) < 1e-6;
  }));
}

TEST_F(LifecycleTest, ACandidateThatIsAsGoodGoesLive) {
  Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  ToyFlow slow = Toy(1.04f);
  slow.delay_us = 5000;
  const std::string digest = Publish(slow);
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_GATING));
  // Meanwhile the old one serves, and the new one to whoever asks for it.
  EXPECT_EQ(LiveVersion(), 1);
  v1::StreamSamplesRequest candidate = DrawsOf("toy", "s", 0, 1);
  candidate.mutable_model()->set_slot(v1::SLOT_CANDIDATE);
  EXPECT_EQ(Stream(channel_, candidate).header.digest(), digest);
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_LIVE));
  EXPECT_EQ(LiveVersion(), 2);
  EXPECT_EQ(Version(1).state(), v1::VERSION_STATE_PREVIOUS);
  EXPECT_TRUE(Version(2).gate().passed());
}

TEST_F(LifecycleTest, AWorseCandidateIsRejectedOnceAndForAll) {
  Publish(Toy(1.05f));  // ESS 0.94
  Start();
  ASSERT_TRUE(Gated(1));
  Publish(Toy(1.15f));  // ESS 0.63
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_REJECTED));
  EXPECT_THAT(Version(2).reason(), HasSubstr("ess_of_live"));
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_EQ(Loads("rejected", "gate"), 1);
  const int64_t tiles = ToyTiles();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // 6 polls
  EXPECT_EQ(ToyTiles(), tiles);
  // Nor after a restart, and the live one is served without gating it again.
  Restart();
  EXPECT_TRUE(Becomes(2, v1::VERSION_STATE_REJECTED));
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_TRUE(Becomes(1, v1::VERSION_STATE_LIVE));
  EXPECT_LT(ToyTiles() - tiles, 10) << "only the smoke check draws";
}

TEST_F(LifecycleTest, AnotherTheoryUnderTheSameNameIsRefused) {
  Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  ToyFlow larger = Toy(1.05f);
  larger.l0 = 6;
  Publish(larger);
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_REJECTED));
  EXPECT_THAT(Version(2).reason(), HasSubstr("another model"));
}

TEST_F(LifecycleTest, BelowItsFloorItDoesNotStayLive) {
  Publish(Toy(1.02f));
  ToyFlow proud = Toy(1.1f);  // ESS 0.78
  proud.ess_floor = 0.9f;
  Publish(proud);
  Start();
  // The newest went live, having found nothing; then its gate failed, and the
  // one before took over.
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_QUARANTINED));
  EXPECT_THAT(Version(2).reason(), HasSubstr("ess_floor"));
  ASSERT_TRUE(Becomes(1, v1::VERSION_STATE_LIVE));
  EXPECT_EQ(LiveVersion(), 1);
  Restart();
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_TRUE(Becomes(2, v1::VERSION_STATE_QUARANTINED));
}

TEST_F(LifecycleTest, NonFiniteDrawsTakeAVersionBack) {
  Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  ToyFlow rotten = Toy(1.04f);
  rotten.nan_every = 1 << 20;  // the gate looks at 2^13 draws
  Publish(rotten);
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_LIVE));
  const uint64_t bad = (1 << 20) - 1;
  const StreamResult result =
      Stream(channel_, DrawsOf("toy", "s", bad - 10, 20));
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.non_finite, std::vector<uint64_t>{bad});
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_QUARANTINED));
  EXPECT_THAT(Version(2).reason(), HasSubstr("no finite log q"));
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_EQ(Version(1).state(), v1::VERSION_STATE_LIVE);
  EXPECT_EQ(Loads("rolled_back", ""), 1);
  // Its series are those of the live version again.
  EXPECT_THAT(Page(), ContainsRegex("latticed_model_info[{]digest=\"" +
                                    Version(1).digest().substr(0, 12) +
                                    "\",model=\"toy\",numerics_mode=\"[^\"]*\","
                                    "slot=\"live\",version=\"1\"} 1\n"));
  Restart();
  EXPECT_EQ(LiveVersion(), 1);
}

TEST_F(LifecycleTest, WithoutAPreviousVersionABadOneStays) {
  ToyFlow rotten = Toy(1.04f);
  rotten.nan_every = 1 << 20;
  Publish(rotten);
  Start();
  ASSERT_TRUE(Gated(1));
  Stream(channel_, DrawsOf("toy", "s", (1 << 20) - 10, 20));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_EQ(Version(1).state(), v1::VERSION_STATE_LIVE);
}

TEST_F(LifecycleTest, WithRollbackOffItStaysToo) {
  config_.automatic_rollback = false;
  Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  ToyFlow rotten = Toy(1.04f);
  rotten.nan_every = 1 << 20;
  Publish(rotten);
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_LIVE));
  Stream(channel_, DrawsOf("toy", "s", (1 << 20) - 10, 20));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(LiveVersion(), 2);
}

TEST_F(LifecycleTest, ADamagedStateFileStopsTheStart) {
  Publish(Toy(1.05f));
  std::ofstream(state_.File("versions.json")) << "{\"judgements\": [";
  const auto server = Server::Start(config_, ToySamplers(), nullptr);
  EXPECT_THAT(server.status(), StatusIs(absl::StatusCode::kDataLoss,
                                        HasSubstr("versions.json")));
}

TEST_F(LifecycleTest, AStateFileThatCannotBeWrittenStopsNothing) {
  Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  // Root may write anywhere, so the directory itself goes away.
  fs::remove_all(state_.path());
  std::ofstream(state_.path()) << "in the way";
  Publish(Toy(1.04f));
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_LIVE));
  EXPECT_EQ(LiveVersion(), 2);
  EXPECT_GE(
      MetricValue(Page(), "latticed_repository_errors_total{kind=\"state\"}"),
      1);
  // And when it can be again, the next transition is written.
  fs::remove(state_.path());
  fs::create_directory(state_.path());
  Publish(Toy(1.03f));
  ASSERT_TRUE(Becomes(3, v1::VERSION_STATE_LIVE));
  EXPECT_TRUE(fs::exists(state_.File("versions.json")));
}

TEST_F(LifecycleTest, WatchTellsOfEveryVersionAndThenOfChanges) {
  Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  grpc::ClientContext context;
  v1::WatchModelVersionsRequest request;
  request.set_model("toy");
  const auto watch = models_->WatchModelVersions(&context, request);
  v1::WatchModelVersionsResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.version().state(), v1::VERSION_STATE_LIVE);
  Publish(Toy(1.04f));
  while (response.version().version() != 2 ||
         response.version().state() != v1::VERSION_STATE_LIVE) {
    ASSERT_TRUE(watch->Read(&response));
  }
  server_->Drain();
  while (watch->Read(&response)) {
  }
  EXPECT_EQ(CodeAndReason(watch->Finish()), "UNAVAILABLE DRAINING");
}

TEST_F(LifecycleTest, WatchOfAnUnknownModelAndTooManyWatches) {
  Publish(Toy(1.05f));
  Start();
  v1::WatchModelVersionsResponse response;
  {
    grpc::ClientContext context;
    v1::WatchModelVersionsRequest request;
    request.set_model("nowhere");
    const auto watch = models_->WatchModelVersions(&context, request);
    EXPECT_FALSE(watch->Read(&response));
    EXPECT_EQ(CodeAndReason(watch->Finish()), "NOT_FOUND MODEL_NOT_FOUND");
  }
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<
      std::unique_ptr<grpc::ClientReader<v1::WatchModelVersionsResponse>>>
      watches;
  const auto watch = [&] {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    watches.push_back(models_->WatchModelVersions(contexts.back().get(), {}));
    return watches.back()->Read(&response);
  };
  for (int i = 0; i < 256; ++i) ASSERT_TRUE(watch());
  EXPECT_FALSE(watch());
  EXPECT_EQ(CodeAndReason(watches.back()->Finish()),
            "RESOURCE_EXHAUSTED QUEUE_FULL");
  contexts.front()->TryCancel();
  EXPECT_TRUE(Eventually([&] { return watch(); }));
  for (const auto& context : contexts) context->TryCancel();
}

TEST_F(LifecycleTest, AnOperatorRollsBackAndTheRequestIdMakesItOnce) {
  const std::string first = Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  const std::string second = Publish(Toy(1.04f));
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_LIVE));
  const std::string id = "6f2c1b9e-7c1d-4c58-9d0e-3c1a2b4d5e6f";
  EXPECT_TRUE(Rollback(id).ok());
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_EQ(Version(2).state(), v1::VERSION_STATE_QUARANTINED);
  // The reply was lost and the client asks again: nothing happens twice.
  EXPECT_TRUE(Rollback(id).ok());
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_EQ(CodeAndReason(Rollback()),
            "FAILED_PRECONDITION NO_PREVIOUS_VERSION");
  EXPECT_EQ(CodeAndReason(Rollback("no uuid")),
            "INVALID_ARGUMENT INVALID_FIELD");
  // It stays away until somebody says otherwise, and then has to pass again.
  EXPECT_EQ(CodeAndReason(Promote(second)),
            "FAILED_PRECONDITION VERSION_QUARANTINED");
  EXPECT_EQ(CodeAndReason(Unquarantine(first)),
            "FAILED_PRECONDITION NOT_QUARANTINED");
  EXPECT_TRUE(Unquarantine(second).ok());
  EXPECT_TRUE(Becomes(2, v1::VERSION_STATE_LIVE));
}

TEST_F(LifecycleTest, AnOperatorPromotesWhatTheGateRejectedAndItHolds) {
  Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  const std::string worse = Publish(Toy(1.15f));
  ASSERT_TRUE(Becomes(2, v1::VERSION_STATE_REJECTED));
  EXPECT_TRUE(Promote(worse).ok());
  EXPECT_EQ(LiveVersion(), 2);
  Restart();
  EXPECT_EQ(LiveVersion(), 2);
  // An older one by its digest, which then holds against the newer one.
  EXPECT_TRUE(Promote(Version(1).digest()).ok());
  EXPECT_EQ(LiveVersion(), 1);
  Restart();
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_TRUE(Becomes(2, v1::VERSION_STATE_RETIRED));
  EXPECT_EQ(LiveVersion(), 1);
  EXPECT_EQ(CodeAndReason(Promote(std::string(64, 'a'))),
            "NOT_FOUND REPOSITORY");
  EXPECT_EQ(CodeAndReason(Promote("abc")), "INVALID_ARGUMENT INVALID_FIELD");
}

TEST_F(LifecycleTest, AQuarantinedLiveVersionGivesWayToAnOlderOne) {
  Publish(Toy(1.05f));
  const std::string second = Publish(Toy(1.04f));
  Start();
  ASSERT_TRUE(Gated(2));
  EXPECT_EQ(CodeAndReason(Quarantine(second, "")),
            "INVALID_ARGUMENT INVALID_FIELD");
  EXPECT_EQ(CodeAndReason(Quarantine(std::string(64, 'a'), "why not")),
            "NOT_FOUND VERSION_NOT_FOUND");
  EXPECT_TRUE(Quarantine(second, "looks odd").ok());
  EXPECT_THAT(Version(2).reason(), HasSubstr("looks odd"));
  // There is no previous one in memory: version 1 is loaded.
  ASSERT_TRUE(Becomes(1, v1::VERSION_STATE_LIVE));
  EXPECT_EQ(LiveVersion(), 1);
}

TEST_F(LifecycleTest, RefreshLooksAtOnce) {
  config_.poll_seconds = 3600;
  Publish(Toy(1.05f));
  Start();
  ASSERT_TRUE(Gated(1));
  Publish(Toy(1.04f));
  grpc::ClientContext context;
  v1::RefreshModelRequest request;
  request.set_model("toy");
  v1::RefreshModelResponse response;
  ASSERT_TRUE(Admin()->RefreshModel(&context, request, &response).ok());
  ASSERT_EQ(response.versions_size(), 2);
  EXPECT_EQ(response.versions(0).version(), 2);
  EXPECT_TRUE(Becomes(2, v1::VERSION_STATE_LIVE));
}

// Log weights of variance s^2: ESS exp(-s^2).
WeightSums Weights(double sigma, uint64_t first, uint64_t count) {
  WeightSums sums;
  for (uint64_t i = first; i < first + count; ++i) {
    std::vector<float> z(1);
    Normals(NamedStream("weights"), i, Purpose::kBaseDraw, absl::MakeSpan(z));
    sums.Add(sigma * z[0]);
  }
  return sums;
}

TEST(VersionHealth, ToleratesWhatTheGateSawAndNotes30PercentLess) {
  const double gate = std::exp(-0.25);
  for (const double sigma : {0.5, 0.6, 0.9}) {
    VersionHealth health(gate);
    std::string said;
    for (uint64_t i = 0; i < 200 && said.empty(); ++i) {
      said = health.Observe(Weights(sigma, 1024 * i, 1024));
    }
    // exp(-0.36) is 0.9 of the gate's, exp(-0.81) is 0.57.
    if (sigma < 0.8) {
      EXPECT_EQ(said, "");
    } else {
      EXPECT_THAT(said, HasSubstr("at the gate"));
    }
  }
  VersionHealth never_gated(0);
  EXPECT_EQ(never_gated.Observe(Weights(2, 0, 100000)), "");
}

}  // namespace
}  // namespace latticed
