// The end of a server: streams end where they can go on elsewhere.
#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "tests/server/health_client.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

class Drain : public ::testing::Test {
 protected:
  void SetUp() override {
    flow_.delay_us = 1000;
    PublishToy(repository_.path(), flow_);
    config_ = TestConfig(repository_.path());
    config_.state_directory = state_.File("state");
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
  }

  ToyFlow flow_;
  TemporaryDirectory repository_;
  TemporaryDirectory state_;
  Config config_;
  std::unique_ptr<Server> server_;
};

// What was received and what the error says make the whole stream.
TEST_F(Drain, StreamsEndAtABlockBoundaryAndResume) {
  constexpr uint64_t kDraws = 40000;
  const auto channel = Connect(server_->grpc_port());
  std::vector<StreamResult> results(8);
  std::vector<std::thread> clients;
  for (size_t c = 0; c < results.size(); ++c) {
    clients.emplace_back([&, c] {
      v1::StreamSamplesRequest request =
          DrawsOf("toy", "s" + std::to_string(c), 100, kDraws);
      request.set_block_bytes_max(65536);
      results[c] = Stream(channel, request);
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  const auto start = Clock::now();
  server_->Drain();
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(4));
  for (std::thread& client : clients) client.join();
  server_ = StartServer(config_);
  ASSERT_NE(server_, nullptr);
  for (size_t c = 0; c < results.size(); ++c) {
    StreamResult& result = results[c];
    ASSERT_EQ(CodeAndReason(result.status), "UNAVAILABLE DRAINING");
    const auto metadata = PartsOf(result.status).info.metadata();
    EXPECT_TRUE(PartsOf(result.status).retry.has_value());
    const StreamId stream = NamedStream("s" + std::to_string(c));
    EXPECT_EQ(metadata.at("stream_id"), stream.Hex());
    // Messages in flight may be lost with an error, never invented.
    EXPECT_LE(result.next_index, std::stoull(metadata.at("next_index")));
    EXPECT_LT(result.next_index, 100 + kDraws);
    EXPECT_GE(result.blocks.size(), 1);
    if (c > 0) continue;  // one is enough to read on
    v1::StreamSamplesRequest rest = DrawsOf("toy", "", result.next_index, 1000);
    rest.mutable_stream()->set_id(stream.Bytes());
    rest.mutable_model()->set_digest(metadata.at("digest"));
    const StreamResult more = Stream(Connect(server_->grpc_port()), rest);
    ASSERT_TRUE(more.status.ok()) << more.status.error_message();
    for (size_t i = 0; i < result.log_q.size(); i += 101) {
      EXPECT_EQ(result.log_q[i], DrawToy(flow_, stream, 100 + i).log_q);
    }
    EXPECT_EQ(more.log_q.front(),
              DrawToy(flow_, stream, result.next_index).log_q);
  }
}

TEST_F(Drain, ChainsResumeFromTheLastTokenReceived) {
  v1::RunChainRequest request;
  request.mutable_chain()->mutable_model()->set_model("toy");
  request.mutable_chain()->mutable_stream()->set_name("chain");
  request.set_steps(20000);
  request.set_block_bytes_max(65536);
  ChainResult first;
  std::thread client(
      [&] { first = RunChain(Connect(server_->grpc_port()), request); });
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  server_->Drain();
  client.join();
  ASSERT_EQ(CodeAndReason(first.status), "UNAVAILABLE DRAINING");
  ASSERT_FALSE(first.blocks.empty());
  ASSERT_LT(first.accept.size(), 20000);
  server_ = StartServer(config_);
  ASSERT_NE(server_, nullptr);
  v1::RunChainRequest rest;
  rest.set_token(first.token);
  rest.set_steps(20000 - first.accept.size());
  rest.set_block_bytes_max(65536);
  const auto channel = Connect(server_->grpc_port());
  const ChainResult second = RunChain(channel, rest);
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  const ChainResult whole = RunChain(channel, request);
  ASSERT_TRUE(whole.status.ok());
  EXPECT_EQ(first.accept + second.accept, whole.accept);
  EXPECT_EQ(second.token, whole.token);
  std::vector<float> phi = first.phi;
  phi.insert(phi.end(), second.phi.begin(), second.phi.end());
  EXPECT_EQ(phi, whole.phi);
}

// A health watch would keep a shutdown without a deadline waiting for ever, and
// a client that never reads one with.
TEST_F(Drain, WatchersAndStalledClientsDoNotHoldItUp) {
  config_.drain_seconds = 1;
  server_ = nullptr;
  ToyFlow big;
  big.model = "big";
  big.l0 = big.l1 = 16;
  big.tile = 64;
  PublishToy(repository_.path(), big);
  server_ = StartServer(config_);
  ASSERT_NE(server_, nullptr);
  HealthClient health(Connect(server_->grpc_port()));
  EXPECT_EQ(health.Check(""), "SERVING");
  EXPECT_EQ(health.Check("readiness"), "SERVING");
  EXPECT_EQ(health.Check("liveness"), "SERVING");
  EXPECT_EQ(health.Check("toy"), "SERVING");
  EXPECT_EQ(health.Check("nobody"), "NOT_FOUND");
  std::vector<std::string> seen;
  std::thread watcher([&] { seen = health.Watch("readiness"); });
  const auto stub = v1::SamplerService::NewStub(Connect(server_->grpc_port()));
  grpc::ClientContext context;
  const auto stalled =
      stub->StreamSamples(&context, DrawsOf("big", "s", 0, uint64_t{1} << 30));
  v1::StreamSamplesResponse response;
  ASSERT_TRUE(stalled->Read(&response));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto start = Clock::now();
  server_->Drain();
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(4));
  watcher.join();
  ASSERT_GE(seen.size(), 2);
  EXPECT_EQ(seen[0], "SERVING");
  EXPECT_EQ(seen[1], "NOT_SERVING");
  context.TryCancel();
}

TEST_F(Drain, NewCallsAreRefusedWhileOthersEnd) {
  config_.drain_seconds = 3;
  server_ = nullptr;
  server_ = StartServer(config_);
  const auto channel = Connect(server_->grpc_port());
  ASSERT_TRUE(Stream(channel, DrawsOf("toy", "s", 0, 1)).status.ok());
  // A unary call of a second and a half is let end; the server still answers.
  grpc::Status sampled;
  std::thread client([&] {
    const auto stub = v1::SamplerService::NewStub(channel);
    v1::SampleRequest request;
    request.mutable_model()->set_model("toy");
    request.set_count(16 * 1200);
    grpc::ClientContext context;
    v1::SampleResponse response;
    sampled = stub->Sample(&context, request, &response);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  std::thread drain([&] { server_->Drain(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(CodeAndReason(Stream(channel, DrawsOf("toy", "s", 0, 1)).status),
            "UNAVAILABLE DRAINING");
  EXPECT_THAT(HttpGet(server_->http_port(), "/readyz"), HasSubstr("draining"));
  drain.join();
  client.join();
  EXPECT_TRUE(sampled.ok()) << sampled.error_message();
}

}  // namespace
}  // namespace latticed
