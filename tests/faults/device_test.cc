// F21, F22: a device without memory, and one that is lost.
#include <cmath>
#include <thread>

#include "gmock/gmock.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

class DeviceFault : public ::testing::Test {
 protected:
  DeviceFault() : config_(TestConfig(repository_.path())) {
    config_.smoke_draws = 0;
  }
  void Start(OnEnd on_end = nullptr) {
    auto server =
        Server::Start(config_, ToySamplers(), nullptr, std::move(on_end));
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    channel_ = Connect(server_->grpc_port());
  }
  double Metric(const std::string& name) {
    return MetricValue(HttpGet(server_->http_port(), "/metrics"), name);
  }
  std::string StateOf(int64_t version, v1::VersionState state) {
    const auto models = v1::ModelService::NewStub(channel_);
    v1::GetModelVersionResponse response;
    Eventually([&] {
      grpc::ClientContext context;
      v1::GetModelVersionRequest request;
      request.mutable_model()->set_model("toy");
      request.mutable_model()->set_version(version);
      models->GetModelVersion(&context, request, &response);
      return response.version().state() == state;
    });
    EXPECT_EQ(response.version().state(), state);
    return response.version().reason();
  }

  TemporaryDirectory repository_;
  Config config_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(DeviceFault, OutOfMemoryEndsTheCallAndNothingElse) {
  ToyFlow flow;
  flow.oom_tile = 3;
  PublishToy(repository_.path(), flow);
  Start();
  const StreamResult failed = Stream(channel_, DrawsOf("toy", "s", 0, 200));
  EXPECT_EQ(CodeAndReason(failed.status), "RESOURCE_EXHAUSTED OUT_OF_MEMORY");
  EXPECT_TRUE(PartsOf(failed.status).retry.has_value());
  EXPECT_EQ(Metric("latticed_device_oom_total"), 1);
  // The same draws are to be had right after.
  const StreamResult again = Stream(channel_, DrawsOf("toy", "s", 0, 200));
  EXPECT_TRUE(again.status.ok());
  EXPECT_EQ(again.log_q.size(), 200);
}

TEST_F(DeviceFault, OutOfMemoryWhileSmokingOrGatingRejects) {
  PublishToy(repository_.path(), ToyFlow());
  config_.smoke_draws = 64;
  config_.gate_draws = 8192;
  Start();
  StateOf(1, v1::VERSION_STATE_LIVE);
  ToyFlow flow;
  flow.oom_tile = 2;  // of the smoke check
  PublishToy(repository_.path(), flow);
  EXPECT_THAT(StateOf(2, v1::VERSION_STATE_REJECTED), HasSubstr("no memory"));
  flow.oom_tile = 100;  // at the gate
  PublishToy(repository_.path(), flow);
  EXPECT_THAT(StateOf(3, v1::VERSION_STATE_REJECTED), HasSubstr("no memory"));
  EXPECT_TRUE(Stream(channel_, DrawsOf("toy", "s", 0, 200)).status.ok());
  EXPECT_EQ(Metric("latticed_device_oom_total"), 2);
}

TEST_F(DeviceFault, NoMemoryToLoadRejects) {
  PublishToy(repository_.path(), ToyFlow());
  const SamplerFactory factory = ToySamplers();
  int loads = 0;
  auto server = Server::Start(
      config_,
      [&](const Checkpoint& checkpoint,
          int step_factor) -> absl::StatusOr<std::unique_ptr<TileSampler>> {
        if (++loads == 2) throw std::bad_alloc();
        return factory(checkpoint, step_factor);
      },
      nullptr);
  ASSERT_THAT(server, IsOk());
  server_ = *std::move(server);
  channel_ = Connect(server_->grpc_port());
  PublishToy(repository_.path(), ToyFlow());
  EXPECT_THAT(StateOf(2, v1::VERSION_STATE_REJECTED),
              HasSubstr("could not be built"));
  EXPECT_EQ(Stream(channel_, DrawsOf("toy", "s", 0, 1)).header.version(), 1);
}

// The process that owns the server ends it: see latticed's main.
TEST_F(DeviceFault, ALostDeviceEndsEveryCallAndAsksForTheEnd) {
  ToyFlow flow;
  flow.lost_tile = 5;
  PublishToy(repository_.path(), flow);
  std::atomic<int> asked{0};
  Start([&](EndReason reason) {
    EXPECT_EQ(reason, EndReason::kDeviceLost);
    ++asked;
  });
  const StreamResult lost = Stream(channel_, DrawsOf("toy", "s", 0, 2000));
  EXPECT_EQ(CodeAndReason(lost.status), "UNAVAILABLE DEVICE_LOST");
  EXPECT_EQ(CodeAndReason(Stream(channel_, DrawsOf("toy", "s", 0, 1)).status),
            "UNAVAILABLE DEVICE_LOST");
  EXPECT_EQ(asked, 1);
  EXPECT_GE(Metric("latticed_device_errors_total"), 1);
  const auto start = std::chrono::steady_clock::now();
  server_->Drain();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(9));
}

}  // namespace
}  // namespace latticed
