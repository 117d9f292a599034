// What /metrics says, against what clients received.
#include <cmath>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class MetricsPage : public ::testing::Test {
 protected:
  void SetUp() override {
    PublishToy(repository_.path(), flow_);
    server_ = StartServer(TestConfig(repository_.path()));
    ASSERT_NE(server_, nullptr);
  }
  std::string Page() { return HttpGet(server_->http_port(), "/metrics"); }

  ToyFlow flow_;
  TemporaryDirectory repository_;
  std::unique_ptr<Server> server_;
};

TEST_F(MetricsPage, WeightsAndDrawsAreThoseOfTheClients) {
  const auto channel = Connect(server_->grpc_port());
  const StreamResult result = Stream(channel, DrawsOf("toy", "s", 0, 30000));
  ASSERT_TRUE(result.status.ok());
  const double reference = 8 * std::log(2 * M_PI);  // of the manifest
  double sum = 0, sum2 = 0;
  for (size_t i = 0; i < result.log_q.size(); ++i) {
    const double w = std::exp(-result.action[i] - result.log_q[i] - reference);
    sum += w;
    sum2 += w * w;
  }
  // <w> = Z in expectation; 5 sigma of the mean of 30 000.
  EXPECT_NEAR(sum / 30000, 1, 5 * std::sqrt(sum2 / 30000 / 30000));
  std::string page;
  ASSERT_TRUE(Eventually([&] {
    page = Page();
    return MetricValue(page,
                       "latticed_configurations_delivered_total{model="
                       "\"toy\"}") == 30000;
  }));
  const std::string labels = "{model=\"toy\",version=\"1\"}";
  EXPECT_EQ(
      MetricValue(page, "latticed_importance_weight_samples_total" + labels),
      30000);
  EXPECT_NEAR(
      MetricValue(page, "latticed_importance_weight_sum_total" + labels), sum,
      1e-9 * sum);
  EXPECT_NEAR(
      MetricValue(page, "latticed_importance_weight_square_sum_total" + labels),
      sum2, 1e-9 * sum2);
  // 64 of the smoke check come on top.
  EXPECT_EQ(MetricValue(
                page, "latticed_configurations_generated_total{model=\"toy\"}"),
            30064);
  EXPECT_EQ(MetricValue(page,
                        "latticed_rpc_completed_total{code=\"OK\",method="
                        "\"StreamSamples\",service=\"SamplerService\"}"),
            1);
  EXPECT_EQ(MetricValue(
                page, "latticed_streams_terminated_total{reason=\"complete\"}"),
            1);
}

TEST_F(MetricsPage, SeriesExistAtZeroBeforeAnythingHappens) {
  const std::string page = Page();
  for (const char* series :
       {"latticed_rpc_started_total{method=\"Sample\",service="
        "\"SamplerService\"}",
        "latticed_rpc_completed_total{code=\"DATA_LOSS\",method=\"RunChain\","
        "service=\"ChainService\"}",
        "latticed_importance_weight_samples_total{model=\"toy\",version="
        "\"1\"}",
        "latticed_chain_proposals_total{model=\"toy\"}",
        "latticed_nonfinite_values_total{kind=\"action\",model=\"toy\"}",
        "latticed_configurations_discarded_total{model=\"toy\"}",
        "latticed_queue_configurations{model=\"toy\"}",
        "latticed_rpc_rejected_total{reason=\"queue_full\"}",
        "latticed_repository_errors_total{kind=\"repository\"}",
        "latticed_dropped_observations_total"}) {
    EXPECT_EQ(MetricValue(page, series), 0) << series;
  }
  for (const char* series :
       {"process_cpu_seconds_total", "process_resident_memory_bytes",
        "process_virtual_memory_bytes", "process_open_fds", "process_max_fds",
        "process_start_time_seconds", "process_threads",
        "latticed_queue_capacity_configurations{model=\"toy\"}",
        "latticed_repository_last_success_timestamp_seconds"}) {
    EXPECT_GT(MetricValue(page, series), 0) << series;
  }
  EXPECT_NEAR(MetricValue(page, "process_start_time_seconds"),
              static_cast<double>(time(nullptr)), 3600);
}

TEST_F(MetricsPage, SeriesOfRetiredVersionsGo) {
  const auto versions = [&] {
    int count = 0;
    for (const auto line : absl::StrSplit(Page(), '\n')) {
      count += absl::StartsWith(line, "latticed_model_info{") ? 1 : 0;
    }
    return count;
  };
  EXPECT_EQ(versions(), 1);
  size_t lines = 0;
  for (int version = 2; version <= 8; ++version) {
    flow_.scale += 0.01f;
    PublishToy(repository_.path(), flow_);
    ASSERT_TRUE(Eventually([&] {
      return Page().find("slot=\"live\",version=\"" + std::to_string(version) +
                         "\"") != std::string::npos;
    }));
    EXPECT_EQ(versions(), 2);
    const std::vector<std::string> page = absl::StrSplit(Page(), '\n');
    if (version > 3) {
      EXPECT_EQ(page.size(), lines);
    }
    lines = page.size();
  }
}

TEST_F(MetricsPage, HttpAnswersWhatItHasAndRefusesTheRest) {
  const int port = server_->http_port();
  EXPECT_THAT(HttpGet(port, "/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(HttpGet(port, "/readyz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(HttpGet(port, "/"), HasSubstr("<title>latticed</title>"));
  EXPECT_THAT(HttpGet(port, "/metrics?x=1"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(HttpGet(port, "/metrics/../etc/passwd"),
              StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(HttpGet(port, "/ /"), StartsWith("HTTP/1.1 400"));
  EXPECT_EQ(HttpGet(port, "/" + std::string(20000, 'x')).find("200"),
            std::string::npos);
  EXPECT_THAT(HttpGet(port, "/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST(Metrics, ValuesThatAreNotFiniteNeverReachAMetric) {
  Metrics metrics;
  metrics.AddModel("m");
  metrics.AddVersion("m", 1, "d", "mode", /*log_weight_reference=*/NAN, NAN,
                     INFINITY);
  WeightSums sums;
  sums.Add(1.0);
  metrics.Weights("m", 1, sums);
  metrics.TileDrawn("m", 16, 16, NAN);
  metrics.FirstMessage({"SamplerService", "StreamSamples"}, INFINITY);
  const std::string text = metrics.Text();
  EXPECT_EQ(text.find("nan"), std::string::npos) << text;
  EXPECT_EQ(text.find("NaN"), std::string::npos);
  EXPECT_EQ(MetricValue(text, "latticed_dropped_observations_total"), 4);
}

}  // namespace
}  // namespace latticed
