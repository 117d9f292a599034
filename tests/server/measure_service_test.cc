// Measure over a real connection, against what is known exactly of the toy:
// S = sum phi^2 / 2, so sites are independent unit normals and
//   log Z = (V/2) log 2 pi, chi_2 = phi2 = 1, S/V = 1/2, link energy 0.
#include <cmath>
#include <numbers>
#include <thread>

#include "absl/strings/str_join.h"
#include "core/stats/block_sums.h"
#include "gmock/gmock.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

struct MeasureResult {
  std::vector<v1::MeasureResponse> messages;
  grpc::Status status;
  double seconds = 0;
  const v1::MeasureResponse& last() const { return messages.back(); }
};

MeasureResult Measure(const std::shared_ptr<grpc::Channel>& channel,
                      const v1::MeasureRequest& request) {
  MeasureResult result;
  const auto stub = v1::MeasureService::NewStub(channel);
  grpc::ClientContext context;
  const auto start = std::chrono::steady_clock::now();
  const auto reader = stub->Measure(&context, request);
  v1::MeasureResponse response;
  while (reader->Read(&response)) {
    EXPECT_EQ(response.has_provenance(), result.messages.empty());
    EXPECT_FALSE(!result.messages.empty() && result.last().final());
    result.messages.push_back(std::move(response));
  }
  result.status = reader->Finish();
  if (result.status.ok()) {
    EXPECT_TRUE(result.last().final());
    EXPECT_TRUE(result.last().has_sums());
  }
  result.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return result;
}

v1::MeasureRequest Asking(const std::vector<std::string>& observables,
                          uint64_t draws) {
  v1::MeasureRequest request;
  request.mutable_model()->set_model("toy");
  request.mutable_stream()->set_name("measure");
  for (const std::string& name : observables) request.add_observable(name);
  request.mutable_budget()->set_draws(draws);
  return request;
}

// As a client merges them.
BlockSums SumsOf(const v1::MeasureSums& sums, bool chain = false) {
  BlockSums merged(4, 4, chain, sums.log_w_reference());
  std::vector<BlockSum> blocks(static_cast<size_t>(sums.positions_size()));
  const size_t primaries = merged.primaries();
  for (size_t i = 0; i < blocks.size(); ++i) {
    const int at = static_cast<int>(i);
    blocks[i].positions = sums.positions(at);
    blocks[i].non_finite = sums.non_finite(at);
    blocks[i].sum_w = sums.sum_w(at);
    blocks[i].sum_w2 = sums.sum_w2(at);
    blocks[i].measured = sums.measured(at);
    const auto first =
        sums.quantities().begin() + static_cast<ptrdiff_t>(i * primaries);
    blocks[i].sums.assign(first, first + static_cast<ptrdiff_t>(primaries));
  }
  EXPECT_TRUE(merged.Restore(sums.block_size(), std::move(blocks)));
  return merged;
}

const std::vector<std::string> kNames = {
    "chi_2",       "abs_M",           "binder_U", "phi2",
    "link_energy", "action_per_site", "Gt_0",     "Gt_2"};
// <|M|> = sqrt(2 / (pi V)); Gt(t) = delta_t0 / L.
const std::map<std::string, double> kExact = {
    {"chi_2", 1},       {"abs_M", std::sqrt(2 / (std::numbers::pi * 16))},
    {"binder_U", 0},    {"phi2", 1},
    {"link_energy", 0}, {"action_per_site", 0.5},
    {"Gt_0", 0.25},     {"Gt_2", 0}};
constexpr double kLogZ = 8 * 1.8378770664093453;

void ExpectExact(const v1::MeasureResponse& response) {
  EXPECT_EQ(response.observables_size(), static_cast<int>(kNames.size()));
  for (const auto& [name, exact] : kExact) {
    ASSERT_TRUE(response.observables().contains(name)) << name;
    const v1::Estimate& estimate = response.observables().at(name);
    EXPECT_GT(estimate.error(), 0) << name;
    EXPECT_LT(estimate.error(), 0.05) << name;
    EXPECT_NEAR(estimate.value(), exact, 5 * estimate.error()) << name;
  }
  EXPECT_NEAR(response.log_z().value(), kLogZ, 5 * response.log_z().error());
  EXPECT_GT(response.log_z().error(), 0);
}

class MeasureService : public ::testing::Test {
 protected:
  void Start() {
    PublishToy(repository_.path(), flow_);
    config_ = TestConfig(repository_.path());
    config_.smoke_draws = 0;
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
    channel_ = Connect(server_->grpc_port());
  }

  ToyFlow flow_;
  TemporaryDirectory repository_;
  Config config_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(MeasureService, ImportanceSamplingGivesTheExactAnswers) {
  Start();
  const MeasureResult result = Measure(channel_, Asking(kNames, 40000));
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  ExpectExact(result.last());
  EXPECT_EQ(result.last().summary().draws(), 40000);
  EXPECT_EQ(result.last().next_index(), 40000);
  EXPECT_EQ(result.messages[0].provenance().model(), "toy");
  EXPECT_EQ(result.messages[0].provenance().stream_id(),
            NamedStream("measure").Bytes());
  // ESS of weights between Gaussians of widths 1 and s on V sites is
  // [s^-1 sqrt(2 s^2 - 1)]^V s^-V... = (sqrt(2 s^2 - 1) / s^2)^V.
  const double s = 1.1f;
  const double ess = std::pow(std::sqrt(2 * s * s - 1) / (s * s), 16);
  EXPECT_NEAR(result.last().summary().ess(), ess, 0.03);
  const std::string text = server_->metrics().Text();
  EXPECT_EQ(MetricValue(
                text, "latticed_configurations_delivered_total{model=\"toy\"}"),
            40000);
}

TEST_F(MeasureService, AChainGivesTheExactAnswers) {
  flow_.scale = 1.2f;
  Start();
  v1::MeasureRequest request = Asking(kNames, 60000);
  request.set_estimator(v1::ESTIMATOR_CHAIN);
  const MeasureResult result = Measure(channel_, request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  ExpectExact(result.last());
  // Rejections correlate: errors are those of the Gamma method.
  EXPECT_GT(result.last().tau_int(), 0.7);
  EXPECT_LT(result.last().accepted(), 50000);
  EXPECT_GT(result.last().accepted(), 20000);
  const double naive = std::sqrt(2.0 / 60000);  // of chi_2 = V M^2
  EXPECT_NEAR(result.last().observables().at("chi_2").error(),
              naive * std::sqrt(2 * result.last().tau_int()), 0.2 * naive);
}

// Two runs of the same request are the same numbers, and the estimates are
// those of the draws themselves.
TEST_F(MeasureService, IsReproducibleAndAgreesWithTheDraws) {
  Start();
  v1::MeasureRequest request = Asking({"chi_2", "log_Z"}, 0);
  request.set_first_index(1000);
  request.mutable_budget()->set_relative_error(0.02);
  const MeasureResult a = Measure(channel_, request);
  const MeasureResult b = Measure(channel_, request);
  ASSERT_TRUE(a.status.ok()) << a.status.error_message();
  ASSERT_TRUE(b.status.ok());
  EXPECT_EQ(a.last().sums().SerializeAsString(),
            b.last().sums().SerializeAsString());
  BlockSums sums(4, 4, false, a.last().sums().log_w_reference());
  for (uint64_t i = 1000; i < a.last().next_index(); ++i) {
    const ToyDraw draw = DrawToy(flow_, NamedStream("measure"), i);
    const Measurement x = latticed::Measure(draw.phi, 4, 4, draw.action);
    sums.Add(-draw.action - draw.log_q, &x);
  }
  EXPECT_EQ(a.last().observables().at("chi_2").value(),
            sums.JackknifeObservables().at("chi_2").value);
  EXPECT_EQ(a.last().observables().at("chi_2").error(),
            sums.JackknifeObservables().at("chi_2").error);
  EXPECT_EQ(a.last().log_z().value(), sums.LogZ().value);
  EXPECT_FALSE(a.last().observables().contains("log_Z")) << "has its field";
}

// chi_2 = V M^2 of a unit normal has a relative error of sqrt(2 / (n ESS)) or a
// little less: 2 % needs about 5000 effective draws.
TEST_F(MeasureService, StopsAtTheRelativeErrorOfEveryObservable) {
  Start();
  v1::MeasureRequest request = Asking({"chi_2", "phi2"}, 0);
  request.mutable_budget()->set_relative_error(0.02);
  const MeasureResult result = Measure(channel_, request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  const v1::Estimate& chi_2 = result.last().observables().at("chi_2");
  EXPECT_LE(chi_2.error(), 0.02 * chi_2.value());
  // The jackknife error is uncertain by 1/sqrt(2 * 64) = 9 %, the draws needed
  // by 18 %, and a block has 3276 draws.
  EXPECT_LT(result.last().next_index(), 4 * 5000 / 0.7);
  EXPECT_GT(result.last().next_index(), 2000);
}

TEST_F(MeasureService, StopsAtEffectiveSamples) {
  Start();
  v1::MeasureRequest request = Asking({"chi_2"}, 0);
  request.mutable_budget()->set_effective_samples(20000);
  for (const v1::Estimator estimator :
       {v1::ESTIMATOR_IMPORTANCE_SAMPLING, v1::ESTIMATOR_CHAIN}) {
    request.set_estimator(estimator);
    const MeasureResult result = Measure(channel_, request);
    ASSERT_TRUE(result.status.ok()) << result.status.error_message();
    const double n = static_cast<double>(result.last().next_index());
    const double effective = estimator == v1::ESTIMATOR_CHAIN
                                 ? n / (2 * result.last().tau_int())
                                 : n * result.last().summary().ess();
    EXPECT_GE(effective, 0.99 * 20000);
    EXPECT_LT(effective, 1.2 * 20000 + 2 * 3276);
  }
}

TEST_F(MeasureService, StopsAtSecondsWithProgressOnTheWay) {
  flow_.delay_us = 1000;
  flow_.tile = 128;
  Start();
  v1::MeasureRequest request = Asking({"phi2"}, 0);
  request.mutable_budget()->set_seconds(1.5);
  request.set_progress_sums(true);
  const MeasureResult result = Measure(channel_, request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_GE(result.seconds, 1.5);
  EXPECT_LT(result.seconds, 4);
  // Five a second, less when the machine is busy; never more.
  EXPECT_GE(result.messages.size(), 4);
  EXPECT_LE(result.messages.size(), 2 + result.seconds * 5 + 1);
  uint64_t before = 0;
  for (size_t i = 1; i < result.messages.size(); ++i) {
    EXPECT_GT(result.messages[i].next_index(), before);
    before = result.messages[i].next_index();
    EXPECT_TRUE(result.messages[i].has_sums());
    EXPECT_EQ(SumsOf(result.messages[i].sums()).Total().positions, before);
  }
}

// Shards at index ranges of one stream and of other streams.
TEST_F(MeasureService, ShardsMergeToOneRun) {
  Start();
  constexpr uint64_t kDraws = 16384;
  const MeasureResult whole = Measure(channel_, Asking(kNames, kDraws));
  ASSERT_TRUE(whole.status.ok());
  std::optional<BlockSums> merged;
  for (uint64_t shard = 0; shard < 4; ++shard) {
    v1::MeasureRequest request = Asking(kNames, kDraws / 4);
    request.set_first_index(shard * kDraws / 4);
    const MeasureResult part = Measure(channel_, request);
    ASSERT_TRUE(part.status.ok());
    BlockSums sums = SumsOf(part.last().sums());
    if (merged.has_value()) {
      merged->Append(sums);
    } else {
      merged = sums;
    }
  }
  // To the bit, since the ranges are whole blocks.
  const auto estimates = merged->JackknifeObservables();
  for (const std::string& name : kNames) {
    EXPECT_EQ(estimates.at(name).value,
              whole.last().observables().at(name).value());
    EXPECT_EQ(estimates.at(name).error,
              whole.last().observables().at(name).error());
  }
  EXPECT_EQ(merged->LogZ().value, whole.last().log_z().value());
  EXPECT_EQ(merged->LogZ().error, whole.last().log_z().error());
  EXPECT_EQ(merged->Ess().value, SumsOf(whole.last().sums()).Ess().value);

  // Other streams add information: errors fall by sqrt 2, to within their own
  // uncertainty of about 10 %.
  v1::MeasureRequest request = Asking(kNames, kDraws);
  request.mutable_stream()->set_name("another");
  const MeasureResult other = Measure(channel_, request);
  merged->Append(SumsOf(other.last().sums()));
  EXPECT_EQ(merged->Total().positions, 2 * kDraws);
  const Estimate chi_2 = merged->JackknifeObservables().at("chi_2");
  EXPECT_NEAR(chi_2.error * std::sqrt(2) /
                  whole.last().observables().at("chi_2").error(),
              1, 0.4);
  EXPECT_NEAR(chi_2.value, 1, 5 * chi_2.error);
}

TEST_F(MeasureService, ShardsOfChainsMergeToTheExactAnswers) {
  flow_.scale = 1.2f;
  Start();
  std::optional<BlockSums> merged;
  for (const char* stream : {"a", "b", "c"}) {
    v1::MeasureRequest request = Asking(kNames, 20000);
    request.mutable_stream()->set_name(stream);
    request.set_estimator(v1::ESTIMATOR_CHAIN);
    const MeasureResult part = Measure(channel_, request);
    ASSERT_TRUE(part.status.ok());
    const BlockSums sums = SumsOf(part.last().sums(), /*chain=*/true);
    EXPECT_NEAR(sums.JackknifeObservables().at("chi_2").value,
                part.last().observables().at("chi_2").value(), 1e-12);
    if (merged.has_value()) {
      merged->Append(sums);
    } else {
      merged = sums;
    }
  }
  const auto estimates = merged->JackknifeObservables();
  for (const auto& [name, exact] : kExact) {
    EXPECT_NEAR(estimates.at(name).value, exact, 5 * estimates.at(name).error)
        << name;
  }
  EXPECT_NEAR(merged->LogZ().value, kLogZ, 5 * merged->LogZ().error);
}

TEST_F(MeasureService, NonFiniteDrawsAreCountedAndLeftOut) {
  flow_.nan_every = 4;
  Start();
  for (const v1::Estimator estimator :
       {v1::ESTIMATOR_IMPORTANCE_SAMPLING, v1::ESTIMATOR_CHAIN}) {
    v1::MeasureRequest request = Asking(kNames, 40000);
    request.set_estimator(estimator);
    const MeasureResult result = Measure(channel_, request);
    ASSERT_TRUE(result.status.ok()) << result.status.error_message();
    EXPECT_EQ(result.last().summary().non_finite(), 10000);
    EXPECT_EQ(result.last().summary().draws(), 30000);
    ExpectExact(result.last());
  }
}

TEST_F(MeasureService, BadRequestsNameTheFieldAndWhatIsAllowed) {
  Start();
  const auto refused = [&](const v1::MeasureRequest& request) {
    const grpc::Status status = Measure(channel_, request).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    const ErrorParts parts = PartsOf(status);
    return parts.bad_request.field_violations_size() == 0
               ? std::string("none")
               : parts.bad_request.field_violations(0).field() + ": " +
                     status.error_message();
  };
  EXPECT_THAT(refused(Asking({"chi_2"}, 0)), HasSubstr("budget: "));
  EXPECT_THAT(refused(Asking({"chi_2"}, (uint64_t{1} << 40) + 1)),
              HasSubstr("budget.draws: "));
  v1::MeasureRequest request = Asking({"chi_2"}, 10);
  request.mutable_budget()->set_relative_error(-1);
  EXPECT_THAT(refused(request), HasSubstr("budget.relative_error: "));
  request.mutable_budget()->set_relative_error(std::nan(""));
  EXPECT_THAT(refused(request), HasSubstr("budget.relative_error: "));
  request = Asking({"chi_2"}, 10);
  request.mutable_budget()->set_seconds(INFINITY);
  EXPECT_THAT(refused(request), HasSubstr("budget.seconds: "));
  EXPECT_THAT(refused(Asking({}, 10)),
              ::testing::AllOf(HasSubstr("observable: "), HasSubstr("Gt_2")));
  EXPECT_THAT(refused(Asking({"chi_2", "chi2"}, 10)),
              ::testing::AllOf(HasSubstr("observable: "), HasSubstr("'chi2'"),
                               HasSubstr("chi_2, abs_M"), HasSubstr("log_Z"),
                               HasSubstr("4x4")));
  EXPECT_THAT(refused(Asking({"Gt_3"}, 10)), HasSubstr("observable: "));
  request = Asking({"chi_2"}, 10);
  request.set_estimator(static_cast<v1::Estimator>(7));
  EXPECT_THAT(refused(request), HasSubstr("estimator: "));
  request = Asking({"chi_2"}, 10);
  request.mutable_model()->set_policy(v1::VERSION_POLICY_FOLLOW);
  EXPECT_THAT(refused(request), HasSubstr("model.policy: "));
  request = Asking({"chi_2"}, 10);
  request.mutable_stream()->set_id("short");
  EXPECT_THAT(refused(request), HasSubstr("stream.id: "));
  request = Asking({"chi_2"}, 10);
  request.set_first_index(UINT64_MAX - 3);
  EXPECT_EQ(CodeAndReason(Measure(channel_, request).status),
            "OUT_OF_RANGE INDEX_OUT_OF_RANGE");
  request = Asking({"chi_2"}, 10);
  request.mutable_model()->set_model("nothing");
  EXPECT_EQ(CodeAndReason(Measure(channel_, request).status),
            "NOT_FOUND MODEL_NOT_FOUND");
}

TEST_F(MeasureService, EndsWithTheStream) {
  Start();
  v1::MeasureRequest request = Asking({"phi2"}, 0);
  request.set_first_index(UINT64_MAX - 99);  // 100 draws are left
  request.mutable_budget()->set_relative_error(1e-9);
  const MeasureResult result = Measure(channel_, request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.last().summary().draws(), 100);
}

TEST_F(MeasureService, ACancelStopsTheDraws) {
  flow_.delay_us = 5000;
  Start();
  v1::MeasureRequest request = Asking({"phi2"}, 0);
  request.mutable_budget()->set_relative_error(1e-9);
  const auto stub = v1::MeasureService::NewStub(channel_);
  grpc::ClientContext context;
  const auto reader = stub->Measure(&context, request);
  v1::MeasureResponse response;
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_TRUE(reader->Read(&response));
  context.TryCancel();
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(Eventually([&] {
    return MetricValue(server_->metrics().Text(),
                       "latticed_streams_terminated_total{reason=\"client_"
                       "cancel\"}") == 1;
  }));
  // What was in flight may still be drawn, then nothing.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const int64_t tiles = ToyTiles();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(ToyTiles(), tiles);
  // Nothing drawn is lost from the books.
  const std::string text = server_->metrics().Text();
  const auto metric = [&](const std::string& name) {
    return MetricValue(
        text, "latticed_configurations_" + name + "_total{model=\"toy\"}");
  };
  EXPECT_EQ(metric("generated"), metric("delivered") + metric("discarded"));
}

TEST_F(MeasureService, AStoppingServerSaysHowToGoOn) {
  flow_.delay_us = 2000;
  Start();
  v1::MeasureRequest request = Asking({"phi2"}, 0);
  request.mutable_budget()->set_relative_error(1e-9);
  request.set_progress_sums(true);
  const auto stub = v1::MeasureService::NewStub(channel_);
  grpc::ClientContext context;
  const auto reader = stub->Measure(&context, request);
  v1::MeasureResponse response, last;
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_TRUE(reader->Read(&last));
  std::thread stop([&] { server_->Drain(); });
  while (reader->Read(&response)) last = response;
  const grpc::Status status = reader->Finish();
  stop.join();
  EXPECT_EQ(CodeAndReason(status), "UNAVAILABLE DRAINING");
  const auto metadata = PartsOf(status).info.metadata();
  EXPECT_EQ(metadata.at("next_index"), std::to_string(last.next_index()));
  EXPECT_GT(last.next_index(), 0);
}

}  // namespace
}  // namespace latticed
