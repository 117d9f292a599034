// Too much work, clients that do not read, clients that leave.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "tests/server/serving.h"
#include "tests/support/sanitizers.h"

namespace latticed {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class Overload : public ::testing::Test {
 protected:
  Overload() : config_(TestConfig(repository_.path())) {}
  void Start(const ToyFlow& flow) {
    PublishToy(repository_.path(), flow);
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
  }
  double Metric(const std::string& name) {
    return MetricValue(server_->metrics().Text(), name);
  }
  double Toy(const std::string& name) {
    return Metric("latticed_" + name + "{model=\"toy\"}");
  }

  // A stream that is opened and read only as far as its header.
  struct Held {
    std::unique_ptr<v1::SamplerService::Stub> stub;
    std::unique_ptr<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientReader<v1::StreamSamplesResponse>> reader;
    bool open = false;
  };
  Held Hold(uint64_t count) {
    Held held;
    held.stub = v1::SamplerService::NewStub(Connect(server_->grpc_port()));
    held.context = std::make_unique<grpc::ClientContext>();
    held.reader = held.stub->StreamSamples(held.context.get(),
                                           DrawsOf("toy", "s", 0, count));
    v1::StreamSamplesResponse response;
    held.open = held.reader->Read(&response);
    return held;
  }

  TemporaryDirectory repository_;
  Config config_;
  std::unique_ptr<Server> server_;
};

TEST_F(Overload, CallsBeyondTheLimitAreRefusedWithARetryDelay) {
  config_.calls_max = 4;
  config_.calls_per_peer_max = 4;
  Start(ToyFlow());
  std::vector<Held> held;
  for (int i = 0; i < 4; ++i) {
    held.push_back(Hold(uint64_t{1} << 30));
    EXPECT_TRUE(held.back().open);
  }
  const auto start = std::chrono::steady_clock::now();
  const grpc::Status status =
      Stream(Connect(server_->grpc_port()), DrawsOf("toy", "s", 0, 1)).status;
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(1000));
  EXPECT_EQ(CodeAndReason(status), "RESOURCE_EXHAUSTED QUEUE_FULL");
  ASSERT_TRUE(PartsOf(status).retry.has_value());
  EXPECT_GT(PartsOf(status).retry->retry_delay().seconds(), 0);
  EXPECT_THAT(status.error_message(), HasSubstr("--calls_max"));
  EXPECT_EQ(Metric("latticed_rpc_rejected_total{reason=\"queue_full\"}"), 1);
  held[0].context->TryCancel();
  EXPECT_TRUE(Eventually([&] {
    return Stream(Connect(server_->grpc_port()), DrawsOf("toy", "s", 0, 1))
        .status.ok();
  })) << "a call that ended leaves its place";
  for (Held& one : held) one.context->TryCancel();
}

TEST_F(Overload, OnePeerHasItsOwnLimit) {
  config_.calls_per_peer_max = 2;
  Start(ToyFlow());
  const Held first = Hold(uint64_t{1} << 30);
  const Held second = Hold(uint64_t{1} << 30);
  const grpc::Status status =
      Stream(Connect(server_->grpc_port()), DrawsOf("toy", "s", 0, 1)).status;
  EXPECT_EQ(CodeAndReason(status), "RESOURCE_EXHAUSTED QUOTA");
  EXPECT_THAT(status.error_message(), HasSubstr("--calls_per_peer_max"));
  first.context->TryCancel();
  second.context->TryCancel();
}

// The bound is the reason: the same clients without it hold far more.
TEST_F(Overload, ClientsThatDoNotReadHoldABoundedNumberOfDraws) {
  config_.buffer_bytes_max = 8 << 20;
  ToyFlow flow;
  flow.l0 = flow.l1 = 16;
  flow.tile = 64;
  Start(flow);
  const auto generated = [&] { return Toy("configurations_generated_total"); };
  std::vector<Held> held;
  for (int i = 0; i < 6; ++i) held.push_back(Hold(uint64_t{1} << 30));
  // Drawing stops by itself.
  double last = -1;
  ASSERT_TRUE(Eventually([&] {
    std::this_thread::sleep_for(milliseconds(200));
    const bool still = generated() == last;
    last = generated();
    return still;
  }));
  // Buffers, and what the transport and the clients take in: HTTP/2 windows
  // grow to a few MiB a connection.
  const double bytes = last * (16 * 16 * 4 + 16);
  EXPECT_LT(bytes, (8 << 20) + 6 * (8 << 20));
  EXPECT_GT(bytes, 4 << 20);
  const grpc::Status status =
      Stream(Connect(server_->grpc_port()), DrawsOf("toy", "s", 0, 100)).status;
  EXPECT_TRUE(status.ok() ||
              CodeAndReason(status) == "RESOURCE_EXHAUSTED QUEUE_FULL")
      << status.error_message();
  // One that reads gets all it asks for.
  for (size_t i = 1; i < held.size(); ++i) held[i].context->TryCancel();
  v1::StreamSamplesResponse response;
  uint64_t draws = 0;
  while (draws < 200000 && held[0].reader->Read(&response)) {
    draws += response.block().count();
  }
  EXPECT_GE(draws, 200000);
  held[0].context->TryCancel();
}

TEST_F(Overload, AMillionDrawsTakeNoMoreMemoryThanAHundredThousand) {
  Start(ToyFlow());
  const auto channel = Connect(server_->grpc_port());
  const auto peak = [&](uint64_t draws) {
    for (uint64_t first = 0; first < draws; first += 50000) {
      EXPECT_TRUE(
          Stream(channel, DrawsOf("toy", "s", first, 50000)).status.ok());
    }
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;  // KiB
  };
  const int64_t before = peak(200000);
  // The client of this test is in the same process and holds 50 000 draws.
  EXPECT_LT(peak(1000000), before + (16 << 10));
}

// In tiles, which the device draws one after the other all the time: each
// stream has three blocks of 800 tiles to go. In turn after all of them a
// request would wait for a hundred tiles and more.
TEST_F(Overload, ASmallRequestOvertakesAHundredGreedyStreams) {
  ToyFlow flow;
  flow.delay_us = 15000;  // far more than threads wait for a core
  Start(flow);
  std::vector<Held> greedy;
  for (int i = 0; i < 100; ++i) {
    greedy.push_back(Hold(uint64_t{1} << 30));
    ASSERT_TRUE(greedy.back().open);
  }
  const auto channel = Connect(server_->grpc_port());
  const auto stub = v1::SamplerService::NewStub(channel);
  v1::SampleRequest request;
  request.mutable_model()->set_model("toy");
  request.set_count(16);
  constexpr int kRequests = 150;
  std::vector<int64_t> tiles;
  int64_t of_others = 0;
  for (int i = 0; i < kRequests; ++i) {
    grpc::ClientContext context;
    v1::SampleResponse response;
    const int64_t before = ToyTiles();
    ASSERT_TRUE(stub->Sample(&context, request, &response).ok());
    tiles.push_back(ToyTiles() - before);
    of_others += tiles.back() - 1;
    std::this_thread::sleep_for(milliseconds(1));
  }
  std::sort(tiles.begin(), tiles.end());
  const int64_t p99 = tiles[kRequests * 99 / 100];
  RecordProperty("figure", "behind 100 greedy streams: median " +
                               std::to_string(tiles[kRequests / 2]) +
                               " tiles, p99 " + std::to_string(p99));
  EXPECT_LE(tiles[kRequests / 2], 4);
  EXPECT_LE(tiles[kRequests * 9 / 10], 12);
  // Under a sanitizer, and beside other tests, a thread may wait for a core
  // longer than for tiles.
  if (!kFreedMemoryStays) {
    EXPECT_LE(p99, 4);
  }
  EXPECT_GT(of_others, 0) << "the control: there was somebody to overtake";
}

TEST_F(Overload, ACancelledStreamStopsItsDraws) {
  ToyFlow flow;
  flow.delay_us = 5000;
  Start(flow);
  for (int i = 0; i < 20; ++i) {
    Held held = Hold(uint64_t{1} << 30);
    ASSERT_TRUE(held.open);
    std::this_thread::sleep_for(milliseconds(i));
    held.context->TryCancel();
    v1::StreamSamplesResponse response;
    while (held.reader->Read(&response)) {
    }
    EXPECT_EQ(held.reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([&] {
    return Metric(
               "latticed_rpc_in_flight{method=\"StreamSamples\",service="
               "\"SamplerService\"}") == 0 &&
           Toy("queue_configurations") == 0;
  }));
  std::this_thread::sleep_for(milliseconds(20));  // the tile in flight
  const int64_t tiles = ToyTiles();
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(ToyTiles(), tiles);
  EXPECT_TRUE(Eventually([&] {
    return Toy("configurations_generated_total") ==
           64 + Toy("configurations_delivered_total") +
               Toy("configurations_discarded_total");
  })) << "every draw but the 64 of the smoke check was sent or discarded";
}

TEST_F(Overload, ADeadlineEndsTheStreamAndItsDraws) {
  ToyFlow flow;
  flow.delay_us = 5000;
  Start(flow);
  const auto stub = v1::SamplerService::NewStub(Connect(server_->grpc_port()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + milliseconds(100));
  v1::SampleRequest request;
  request.mutable_model()->set_model("toy");
  request.set_count(20000);
  v1::SampleResponse response;
  EXPECT_EQ(stub->Sample(&context, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually([&] { return Toy("queue_configurations") == 0; }));
  const int64_t tiles = ToyTiles();
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_LE(ToyTiles(), tiles + 1);
}

TEST_F(Overload, AStalledStreamIsEnded) {
  config_.stall_seconds = 1.5;
  ToyFlow flow;
  flow.l0 = flow.l1 = 16;
  flow.tile = 64;
  Start(flow);
  Held held = Hold(uint64_t{1} << 30);
  ASSERT_TRUE(held.open);
  EXPECT_TRUE(Eventually([&] {
    return Metric("latticed_streams_terminated_total{reason=\"stalled\"}") == 1;
  }));
  // A client that reads, however long in all, is left alone.
  const auto stub = v1::SamplerService::NewStub(Connect(server_->grpc_port()));
  grpc::ClientContext context;
  const auto reader =
      stub->StreamSamples(&context, DrawsOf("toy", "s", 0, 10000));
  v1::StreamSamplesResponse response;
  while (reader->Read(&response)) {
    std::this_thread::sleep_for(milliseconds(200));
  }
  EXPECT_TRUE(reader->Finish().ok());
}

}  // namespace
}  // namespace latticed
