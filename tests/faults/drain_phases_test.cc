// F19: a drain in every phase ends in time.
#include <thread>

#include "gmock/gmock.h"
#include "tests/server/health_client.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

// Everything but the calls that are open may take this long.
constexpr auto kBound = seconds(10);

class DrainPhase : public ::testing::Test {
 protected:
  DrainPhase() : config_(TestConfig(repository_.path())) {
    config_.drain_seconds = 2;
  }
  // Drain and destruction of `server` within the bound.
  void End(std::unique_ptr<Server> server) {
    const auto start = steady_clock::now();
    server->Drain();
    server = nullptr;
    const auto took = steady_clock::now() - start;
    RecordProperty(
        "figure",
        std::to_string(std::chrono::duration<double>(took).count()) + " s");
    EXPECT_LT(took, kBound);
  }

  TemporaryDirectory repository_;
  Config config_;
};

TEST_F(DrainPhase, WhileLoading) {
  PublishToy(repository_.path(), ToyFlow());
  const SamplerFactory factory = ToySamplers();
  std::atomic<bool> loading{false};
  auto server = Server::Start(
      config_,
      [&](const Checkpoint& checkpoint, int step_factor) {
        if (checkpoint.manifest.version() == 2) {
          loading = true;
          std::this_thread::sleep_for(seconds(3));
        }
        return factory(checkpoint, step_factor);
      },
      nullptr);
  ASSERT_THAT(server, IsOk());
  PublishToy(repository_.path(), ToyFlow());
  ASSERT_TRUE(Eventually([&] { return loading.load(); }));
  End(*std::move(server));
}

TEST_F(DrainPhase, WhileGating) {
  config_.gate_draws = 8192;
  PublishToy(repository_.path(), ToyFlow());
  auto server = StartServer(config_);
  ASSERT_NE(server, nullptr);
  const auto models = v1::ModelService::NewStub(Connect(server->grpc_port()));
  ToyFlow slow;
  slow.delay_us = 50000;  // its gate would take half a minute
  PublishToy(repository_.path(), slow);
  ASSERT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    v1::GetModelVersionRequest request;
    request.mutable_model()->set_model("toy");
    request.mutable_model()->set_version(2);
    v1::GetModelVersionResponse response;
    models->GetModelVersion(&context, request, &response);
    return response.version().state() == v1::VERSION_STATE_GATING;
  }));
  End(std::move(server));
}

TEST_F(DrainPhase, WithATileThatTakesLongAndWatchersOfEverything) {
  ToyFlow slow;
  slow.delay_us = 1500000;
  config_.smoke_draws = 0;
  PublishToy(repository_.path(), slow);
  auto server = StartServer(config_);
  ASSERT_NE(server, nullptr);
  const auto channel = Connect(server->grpc_port());
  const auto models = v1::ModelService::NewStub(channel);
  grpc::ClientContext watch_context;
  const auto watch = models->WatchModelVersions(&watch_context, {});
  v1::WatchModelVersionsResponse response;
  ASSERT_TRUE(watch->Read(&response));
  std::thread caller([&] {
    const StreamResult result = Stream(channel, DrawsOf("toy", "s", 0, 100000));
    EXPECT_EQ(CodeAndReason(result.status), "UNAVAILABLE DRAINING");
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  End(std::move(server));
  caller.join();
  while (watch->Read(&response)) {
  }
  EXPECT_EQ(CodeAndReason(watch->Finish()), "UNAVAILABLE DRAINING");
}

}  // namespace
}  // namespace latticed
