// The status page's figures: those of /metrics and of the gate, a bounded
// history, and observables of what clients were drawn.
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/repository.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/json_util.h"
#include "server/health.h"
#include "server/status_history.h"
#include "server/status_report.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Not;

v1::ServerStatus Parsed(const std::string& json) {
  v1::ServerStatus status;
  const auto parsed =
      google::protobuf::util::JsonStringToMessage(json, &status);
  EXPECT_TRUE(parsed.ok()) << parsed.message() << ": " << json;
  return status;
}

class StatusPage : public ::testing::Test {
 protected:
  StatusPage() : config_(TestConfig(repository_.path())) {
    config_.stall_seconds = 1;  // the housekeeper looks every 0.1 s
    flow_.tile = 128;
    flow_.scale = 1.05f;
  }
  void Start() {
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
    channel_ = Connect(server_->grpc_port());
  }
  std::string Page(const std::string& path) {
    return HttpGet(server_->http_port(), path);
  }
  v1::ServerStatus Status() {
    const std::string page = Page("/status.json");
    EXPECT_THAT(page, HasSubstr("200 OK"));
    return Parsed(page.substr(page.find("\r\n\r\n") + 4));
  }
  v1::StatusModel Model() {
    const v1::ServerStatus status = Status();
    return status.models_size() == 1 ? status.models(0) : v1::StatusModel();
  }
  double Metric(const std::string& series) {
    return MetricValue(Page("/metrics"), series);
  }

  TemporaryDirectory repository_;
  Config config_;
  ToyFlow flow_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(StatusPage, LoadsNothingFromElsewhereAndRunsNothingInline) {
  PublishToy(repository_.path(), flow_);
  Start();
  const std::string html = Page("/");
  EXPECT_THAT(html, HasSubstr("Content-Type: text/html; charset=utf-8\r\n"));
  EXPECT_THAT(html, HasSubstr("Content-Security-Policy: default-src 'none'; "
                              "script-src 'self'; style-src 'self'; "
                              "connect-src 'self'; "));
  EXPECT_THAT(html, Not(HasSubstr("unsafe-inline")));
  EXPECT_THAT(html, HasSubstr("X-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(html, HasSubstr("Cache-Control: no-store\r\n"));
  EXPECT_THAT(Page("/status.css"),
              HasSubstr("Content-Type: text/css; charset=utf-8\r\n"));
  EXPECT_THAT(Page("/status.js"),
              HasSubstr("Content-Type: text/javascript; charset=utf-8\r\n"));
  EXPECT_THAT(Page("/status.json"),
              HasSubstr("Content-Type: application/json\r\n"));
  // A name of SVG's is all the script has of other places.
  std::string script = Page("/status.js");
  const std::string name = "http://www.w3.org/2000/svg";
  script.erase(script.find(name), name.size());
  EXPECT_THAT(script, Not(HasSubstr("://")));
  EXPECT_THAT(script, Not(HasSubstr("innerHTML")));
  EXPECT_THAT(Page("/status.css"), Not(HasSubstr("url(")));
}

TEST_F(StatusPage, FiguresAreThoseOfMetricsAndOfTheGate) {
  config_.gate_draws = 8192;
  PublishToy(repository_.path(), flow_);
  Start();
  ASSERT_TRUE(Eventually([&] {
    return Model().versions_size() == 1 && Model().versions(0).has_gate();
  }));
  ASSERT_TRUE(Stream(channel_, DrawsOf("toy", "s", 0, 30000)).status.ok());
  v1::RunChainRequest chain;
  chain.mutable_chain()->mutable_model()->set_model("toy");
  chain.set_steps(5000);
  ASSERT_TRUE(RunChain(channel_, chain).status.ok());
  ASSERT_TRUE(Eventually([&] { return Model().draws() == 35000; }));

  const v1::StatusModel model = Model();
  EXPECT_EQ(model.model(), "toy");
  EXPECT_EQ(model.live_version(), 1);
  EXPECT_EQ(model.lattice(), "4x4");
  EXPECT_FALSE(model.has_reference());
  EXPECT_EQ(model.draws(),
            Metric("latticed_configurations_delivered_total{model=\"toy\"}"));
  EXPECT_EQ(model.queued(),
            Metric("latticed_queue_configurations{model=\"toy\"}"));
  EXPECT_EQ(model.queue_capacity(),
            Metric("latticed_queue_capacity_configurations{model=\"toy\"}"));
  EXPECT_EQ(model.proposals(),
            Metric("latticed_chain_proposals_total{model=\"toy\"}"));
  EXPECT_EQ(
      model.acceptance(),
      Metric("latticed_chain_proposals_accepted_total{model=\"toy\"}") / 5000);
  const std::string labels = "{model=\"toy\",version=\"1\"}";
  const double n = Metric("latticed_importance_weight_samples_total" + labels);
  const double sum = Metric("latticed_importance_weight_sum_total" + labels);
  const double sum2 =
      Metric("latticed_importance_weight_square_sum_total" + labels);
  EXPECT_EQ(model.weight_samples(), n);
  EXPECT_NEAR(model.ess(), sum * sum / (n * sum2), 1e-12);

  ASSERT_EQ(model.versions_size(), 1);
  const v1::StatusVersion& version = model.versions(0);
  EXPECT_EQ(version.state(), v1::VERSION_STATE_LIVE);
  EXPECT_EQ(version.digest().size(), 12);
  EXPECT_NE(version.judge_time(), "");
  EXPECT_TRUE(version.gate().passed());
  EXPECT_EQ(version.gate().draws(), 8192);
  EXPECT_NEAR(version.gate().ess().value(),
              Metric("latticed_model_gate_ess_ratio" + labels), 1e-12);
  EXPECT_GT(version.gate().checks_size(), 5);
  EXPECT_EQ(model.rollback_ess(),
            VersionHealth::kShareOfGate * version.gate().ess().value());
  // The gate's own draws are not what clients were sent.
  EXPECT_LE(model.recent().draws(), 35000U);

  const v1::ServerStatus status = Status();
  EXPECT_EQ(status.calls().at("SamplerService/StreamSamples"), 0);
  EXPECT_EQ(status.rejected().at("queue_full"), 0U);
  EXPECT_GT(status.uptime_seconds(), 0);
  EXPECT_FALSE(status.draining());
  const std::string start_id = status.start_id();
  server_ = nullptr;
  Start();
  EXPECT_NE(Status().start_id(), start_id);
}

TEST_F(StatusPage, TellsWhyAVersionWasRefusedAndEscapesIt) {
  config_.gate_draws = 8192;
  TemporaryDirectory state;
  config_.state_directory = state.path();
  PublishToy(repository_.path(), flow_);
  Start();
  ASSERT_TRUE(Eventually([&] { return Model().rollback_ess() > 0; }));
  flow_.scale = 1.15f;
  const std::string digest = PublishToy(repository_.path(), flow_).digest;
  const auto second = [&] {
    const v1::StatusModel model = Model();
    return model.versions_size() == 2 ? model.versions(0) : v1::StatusVersion();
  };
  ASSERT_TRUE(Eventually(
      [&] { return second().state() == v1::VERSION_STATE_REJECTED; }));
  EXPECT_THAT(second().reason(), HasSubstr("ess_of_live"));
  EXPECT_FALSE(second().gate().passed());
  EXPECT_EQ(second().gate().draws(), 8192);
  EXPECT_EQ(Model().live_version(), 1);
  // After a restart as well: figures of both, the live one's from the state.
  server_ = nullptr;
  Start();
  ASSERT_TRUE(Eventually([&] { return second().gate().draws() == 8192; }));
  EXPECT_THAT(second().reason(), HasSubstr("ess_of_live"));
  ASSERT_TRUE(Eventually([&] { return Model().rollback_ess() > 0; }));

  grpc::ClientContext context;
  v1::QuarantineModelVersionRequest request;
  request.set_model("toy");
  request.set_digest(digest);
  request.set_reason("<script>alert(1)</script>" + std::string(200, 'x'));
  v1::QuarantineModelVersionResponse response;
  ASSERT_TRUE(v1::AdminService::NewStub(Connect(server_->admin_port()))
                  ->QuarantineModelVersion(&context, request, &response)
                  .ok());
  ASSERT_TRUE(Eventually(
      [&] { return second().state() == v1::VERSION_STATE_QUARANTINED; }));
  EXPECT_THAT(second().reason(), HasSubstr("<script>"));
  EXPECT_THAT(Page("/status.json"), Not(HasSubstr("<script")));
}

TEST_F(StatusPage, RecentDrawsAreReweightedAndComparedWithTheReference) {
  config_.gate_draws = 8192;
  flow_.scale = 1.2f;
  flow_.delay_us = 20000;  // 128 draws in 20 ms, so that there are many batches
  const Checkpoint checkpoint = PublishToy(repository_.path(), flow_);
  // Of independent normal deviates.
  v1::ReferenceManifest reference;
  *reference.mutable_action() = checkpoint.manifest.spec().action();
  *reference.mutable_lattice() = checkpoint.manifest.spec().lattice();
  for (const auto& [name, value] : std::map<std::string, double>{
           {"chi_2", 1}, {"phi2", 1}, {"Gt_0", 0.25}, {"Gt_1", 0}}) {
    (*reference.mutable_observables())[name].set_value(value);
    (*reference.mutable_observables())[name].set_error(1e-3);
  }
  ASSERT_THAT(WriteReference(repository_.path(), "toy", reference, {}), IsOk());
  Start();
  ASSERT_TRUE(Eventually([&] {
    return Model().versions_size() == 1 && Model().versions(0).has_gate();
  }));
  EXPECT_TRUE(Model().has_reference());
  EXPECT_FALSE(Model().has_recent()) << "the gate's draws are no client's";

  uint64_t next = 0;
  v1::StatusModel model;
  for (int tries = 0; tries < 100 && model.recent().observables_size() == 0;
       ++tries) {
    ASSERT_TRUE(Stream(channel_, DrawsOf("toy", "s", next, 1000)).status.ok());
    next += 1000;
    model = Model();
  }
  ASSERT_GE(model.recent().blocks(), RecentDraws::kBatchesMin);
  EXPECT_GT(model.recent().draws(), 0U);
  EXPECT_LE(model.recent().draws(), next);
  std::map<std::string, v1::StatusObservable> observables;
  for (const auto& one : model.recent().observables()) {
    observables[one.name()] = one;
  }
  for (const auto& [name, expected] : reference.observables()) {
    const v1::StatusObservable& one = observables[name];
    EXPECT_EQ(one.reference().value(), expected.value()) << name;
    EXPECT_GT(one.recent().error(), 0) << name;
    // Six: of eight blocks or so the error itself is no better than 25 %.
    EXPECT_NEAR(one.recent().value(), expected.value(),
                6 * one.recent().error())
        << name;
  }
  // Without weights it would be 1.44.
  EXPECT_LT(observables["phi2"].recent().error(), 0.06);
  EXPECT_FALSE(observables["abs_M"].has_reference());
}

// A sampler's tiles without a sampler.
class RecentDrawsTest : public ::testing::Test {
 protected:
  RecentDrawsTest() : version_(Version(1, "a")) {
    store_->Put({.model = "m", .version = 1, .digest = version_->digest});
    store_->GoLive(version_);
  }
  static VersionRef Version(int64_t number, const std::string& digest) {
    auto version = std::make_shared<ServedVersion>();
    version->model = "m";
    version->version = number;
    version->digest = digest;
    version->lattice = {2, 2};
    version->tile = 16;
    return version;
  }
  // Draws [first, first + 16) of a stream, measured as soon as that may be.
  void Draw(const VersionRef& version, uint64_t first, bool of_client = true) {
    Tile tile;
    tile.version = version;
    tile.draws = 16;
    TilePiece piece;
    piece.block = std::make_shared<Block>();
    piece.block->first_index = first - 3;
    piece.offset = 3;
    piece.count = 16;
    piece.of_client = of_client;
    tile.pieces.push_back(piece);
    std::vector<float> phi(64);
    std::vector<double> log_q(16, -4.0), action(16, 4.0);
    for (size_t i = 0; i < 16; ++i) {
      for (size_t x = 0; x < 4; ++x) phi[4 * i + x] = i % 2 == 0 ? 1 : -1;
      if (i == 5) log_q[i] = NAN;
    }
    ASSERT_TRUE(Eventually([&] {
      return recent_.Take(tile, {absl::MakeSpan(phi), absl::MakeSpan(log_q),
                                 absl::MakeSpan(action)});
    })) << "it rests after measuring, but not for so long";
    recent_.Measure(Soon());
  }
  static RecentDraws::Clock::time_point Soon() {
    return RecentDraws::Clock::now() + std::chrono::seconds(2);
  }
  uint64_t Draws(const VersionRef& version) {
    const auto summary = recent_.Of(*version, Soon());
    return summary ? summary->draws : 0;
  }

  const std::shared_ptr<FlowStore> store_ = std::make_shared<FlowStore>();
  const VersionRef version_;
  RecentDraws recent_{store_};
};

TEST_F(RecentDrawsTest, CountsADrawOfAClientOnce) {
  EXPECT_EQ(Draws(version_), 0U);
  Draw(version_, 100, /*of_client=*/false);
  EXPECT_EQ(Draws(version_), 0U);
  Draw(version_, 100);
  EXPECT_EQ(Draws(version_), 15U) << "one of 16 is not finite";
  Draw(version_, 100);
  EXPECT_EQ(Draws(version_), 15U);
  Draw(version_, 108);
  EXPECT_EQ(Draws(version_), 23U) << "116 to 123 are new";
  for (uint64_t k = 0; k < 6; ++k) Draw(version_, 1000 + 16 * k);
  const auto summary = recent_.Of(*version_, Soon());
  ASSERT_EQ(summary->blocks, RecentDraws::kBatchesMin);
  EXPECT_NEAR(summary->observables.at("phi2").value, 1, 1e-12);
  EXPECT_NEAR(summary->observables.at("chi_2").value, 4, 1e-12);
  EXPECT_GT(summary->oldest_age_seconds, summary->newest_age_seconds);
}

TEST_F(RecentDrawsTest, IsOfTheLiveVersion) {
  Draw(version_, 100);
  const VersionRef next = Version(2, "b");
  Draw(next, 200);
  EXPECT_EQ(Draws(next), 0U);
  EXPECT_EQ(Draws(version_), 15U);
  store_->Put({.model = "m", .version = 2, .digest = next->digest});
  store_->GoLive(next);
  Draw(next, 300);
  EXPECT_EQ(Draws(next), 15U);
  EXPECT_EQ(Draws(version_), 0U);
}

TEST_F(RecentDrawsTest, KeepsTheLastBatches) {
  for (uint64_t k = 0; k < RecentDraws::kBatches + 3; ++k) {
    Draw(version_, 1000 + 16 * k);
  }
  EXPECT_EQ(recent_.Of(*version_, Soon())->blocks, RecentDraws::kBatches);
  EXPECT_EQ(Draws(version_), 15 * RecentDraws::kBatches);
}

// Counters that grow by the same amount every `step` seconds.
std::map<std::string, ModelFigures> Counters(int64_t live, double n) {
  ModelFigures figures;
  figures.live = live;
  figures.draws = n;
  figures.samples = n;
  figures.sum_w = n;
  figures.sum_w2 = 1.25 * n;  // ESS 0.8
  figures.proposals = n;
  figures.accepted = 0.75 * n;
  figures.queued = 7;
  return {{"m", figures}};
}

TEST(StatusHistory, SeriesAreOfTheirWindowsAndBounded) {
  StatusHistory history;
  double seconds = 0;
  EXPECT_TRUE(history.Due(0));
  for (; seconds <= 3 * 3600; seconds += 2) {
    history.Add(seconds, Counters(1, 1000 * seconds), seconds / 2);
  }
  seconds -= 2;
  EXPECT_FALSE(history.Due(seconds + 1.9));
  EXPECT_TRUE(history.Due(seconds + 2));
  v1::StatusModel model;
  history.Fill("m", seconds, &model);
  EXPECT_THAT(model.draws_per_second().value(), Each(FloatNear(1000, 0.1)));
  EXPECT_THAT(model.ess_series().value(), Each(FloatNear(0.8f, 1e-5)));
  EXPECT_THAT(model.acceptance_series().value(), Each(FloatNear(0.75f, 1e-5)));
  EXPECT_THAT(model.queue().value(), Each(7));
  const auto& ages = model.ess_series().age_seconds();
  EXPECT_EQ(ages.size(), model.ess_series().value_size());
  EXPECT_EQ(ages[ages.size() - 1], 0);
  EXPECT_GT(ages[0], 3500);
  EXPECT_LT(ages[0], 3600);
  EXPECT_TRUE(std::is_sorted(ages.rbegin(), ages.rend()));
  EXPECT_LE(ages.size(), static_cast<int>(StatusHistory::kFineMax +
                                          StatusHistory::kCoarseMax));
  EXPECT_THAT(history.DeviceBusy(seconds).value(), Each(FloatNear(0.5f, 1e-4)));
  std::string json;
  ASSERT_TRUE(google::protobuf::util::MessageToJsonString(model, &json).ok());
  EXPECT_LT(json.size(), size_t{24} << 10);
  history.Fill("unknown", seconds, &model);
}

TEST(StatusHistory, APointIsOfEnoughDrawsOfOneVersion) {
  StatusHistory history;
  double n = 0;
  for (int i = 0; i <= 10; ++i, n += 300) {
    history.Add(2 * i, Counters(1, n), 0);
  }
  v1::StatusModel model;
  history.Fill("m", 20, &model);
  // 1200 draws are the first multiple of 300 that is enough.
  EXPECT_THAT(model.ess_series().age_seconds(), ElementsAre(12, 4));
  EXPECT_THAT(model.ess_series().draws(), ElementsAre(1200, 1200));
  EXPECT_THAT(model.acceptance_series().draws(), ElementsAre(1200, 1200));
  EXPECT_EQ(model.draws_per_second().value_size(), 10);
  // Another version has sums of its own.
  for (int i = 11; i <= 16; ++i) {
    history.Add(2 * i, Counters(2, 500 * (i - 11)), 0);
  }
  model.Clear();
  history.Fill("m", 32, &model);
  EXPECT_THAT(model.ess_series().age_seconds(), ElementsAre(24, 16, 4));
  EXPECT_THAT(model.ess_series().value(), Each(FloatNear(0.8f, 1e-5)));
}

TEST(StatusHistory, WhatIsNotFiniteIsLeftOut) {
  StatusHistory history;
  for (int i = 0; i < 4; ++i) {
    auto counters = Counters(1, 2000 * i);
    counters["m"].sum_w2 = i == 2 ? NAN : 0;
    counters["m"].queued = i == 1 ? INFINITY : 3;
    history.Add(2 * i, counters, 0);
  }
  v1::StatusModel model;
  history.Fill("m", 6, &model);
  EXPECT_THAT(model.ess_series().value(), ElementsAre());
  EXPECT_EQ(model.queue().value_size(), 3);
  EXPECT_THAT(model.queue().value(), Each(3));
}

TEST(StatusHistory, ModelsAreBounded) {
  StatusHistory history;
  std::map<std::string, ModelFigures> models;
  for (int i = 0; i < 100; ++i) models[absl::StrCat("m", 1000 + i)];
  history.Add(0, models, 0);
  v1::StatusModel first, last;
  history.Fill("m1000", 0, &first);
  history.Fill("m1099", 0, &last);
  EXPECT_EQ(first.queue().value_size(), 1);
  EXPECT_EQ(last.queue().value_size(), 0);
}

// As much as there can be of everything that a repository has.
TEST(StatusReport, IsOfABoundedSize) {
  const auto store = std::make_shared<FlowStore>();
  const auto metrics = std::make_shared<Metrics>();
  const auto executor = std::make_shared<Executor>(1);
  auto lifecycle = Lifecycle::Create(Config(), store, metrics, executor,
                                     [](const std::string&, bool) {});
  ASSERT_THAT(lifecycle, IsOk());
  v1::GateReport gate;
  for (int i = 0; i < 16; ++i) {
    v1::GateCheck& check = *gate.add_checks();
    check.set_name("reference_link_energy");
    check.set_value(i == 0 ? NAN : INFINITY);
    check.set_detail(std::string(5000, 'd'));
  }
  gate.mutable_ess()->set_error(INFINITY);
  for (int model = 0; model < 70; ++model) {
    for (int version = 1; version <= 20; ++version) {
      VersionRecord record{.model = absl::StrCat("m", 100 + model),
                           .version = version,
                           .digest = std::string(64, 'a')};
      record.state = v1::VERSION_STATE_REJECTED;
      // Characters of three bytes are not cut in two.
      for (int i = 0; i < 2000; ++i) record.reason += "\u2202";
      record.gate = std::make_shared<const v1::GateReport>(gate);
      store->Put(std::move(record));
    }
  }
  StatusReport report("cpu", store, metrics, *lifecycle);
  report.Tick();
  const auto printed = report.Json(/*draining=*/true);
  ASSERT_THAT(printed, IsOk());
  const std::string& json = *printed;
  EXPECT_LT(json.size(), size_t{1} << 20);
  const v1::ServerStatus status = Parsed(json);
  EXPECT_TRUE(status.draining());
  EXPECT_EQ(status.models_size(), StatusReport::kModelsMax);
  EXPECT_EQ(status.models_total(), 70U);
  EXPECT_EQ(status.models(0).versions_size(), StatusReport::kVersionsMax);
  EXPECT_EQ(status.models(0).versions_total(), 20U);
  EXPECT_EQ(status.models(0).versions(0).version(), 20);
  EXPECT_EQ(status.models(0).versions(0).gate().ess().error(), INFINITY);
  EXPECT_LT(status.models(0).versions(0).reason().size(), 610U);
  executor->Stop();
}

}  // namespace
}  // namespace latticed
