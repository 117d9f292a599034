// F13 to F17: clients that do not read, too many of them, and clients that
// leave.
#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "gmock/gmock.h"
#include "tests/client/toy_process.h"
#include "tests/faults/process_usage.h"
#include "tests/server/serving.h"
#include "tests/support/long_form.h"
#include "tests/support/sanitizers.h"

namespace latticed {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

using Stub = v1::SamplerService::Stub;

// 16 x 16 draws of a kibibyte.
ToyFlow Large() {
  ToyFlow flow;
  flow.l0 = flow.l1 = 16;
  flow.tile = 64;
  return flow;
}

class Clients : public ::testing::Test {
 protected:
  Clients() : config_(TestConfig(repository_.path())) {}
  void Start(const ToyFlow& flow) {
    PublishToy(repository_.path(), flow);
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
  }
  double Metric(const std::string& name) {
    return MetricValue(server_->metrics().Text(), name);
  }
  double InFlight() {
    return Metric(
        "latticed_rpc_in_flight{method=\"StreamSamples\",service="
        "\"SamplerService\"}");
  }

  TemporaryDirectory repository_;
  Config config_;
  std::unique_ptr<Server> server_;
};

// With HTTP/2 windows that do not grow: a client of gRPC takes megabytes into
// its buffers for streams that nobody reads, as long as the link is fast.
std::shared_ptr<grpc::Channel> ConnectNarrow(int port) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return Connect(port, arguments);
}

// Streams that are opened and never read, on `channel`.
class Stalled {
 public:
  Stalled(const std::shared_ptr<grpc::Channel>& channel, int count)
      : stub_(v1::SamplerService::NewStub(channel)), contexts_(count) {
    for (auto& context : contexts_) {
      context = std::make_unique<grpc::ClientContext>();
      readers_.push_back(stub_->StreamSamples(
          context.get(), DrawsOf("toy", "", 0, uint64_t{1} << 30)));
    }
  }
  ~Stalled() {
    for (auto& context : contexts_) context->TryCancel();
    v1::StreamSamplesResponse response;
    for (auto& reader : readers_) {
      while (reader->Read(&response)) {
      }
      reader->Finish();
    }
  }

 private:
  const std::unique_ptr<Stub> stub_;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts_;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::StreamSamplesResponse>>>
      readers_;
};

// Draws a second that a client gets.
double Rate(const std::shared_ptr<grpc::Channel>& channel, uint64_t count) {
  const auto start = steady_clock::now();
  const auto stub = v1::SamplerService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader =
      stub->StreamSamples(&context, DrawsOf("toy", "", 0, count));
  v1::StreamSamplesResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  return static_cast<double>(count) /
         duration<double>(steady_clock::now() - start).count();
}

TEST(StalledStreams, HoldThreeBlocksEachAndCostTheOthersNothing) {
  const int stalled = InForm(100, 500);
  TemporaryDirectory repository, state;
  testing::ToyProcess server(
      repository.path(), state.File("key"),
      {"l0=16", "l1=16", "tile=64", "calls_max=1000", "buffer_mib=4096"});
  const auto memory_of_server = [&] {
    return MemoryOf("VmRSS", std::to_string(server.process_id()));
  };
  const auto channel = Connect(server.port());
  Rate(channel, 2000);
  const double quiet = Rate(channel, 20000);
  const int64_t before = memory_of_server();
  const Stalled held(ConnectNarrow(server.port()), stalled);
  // Their draws stop when two blocks are ahead of the one being written.
  int64_t memory = 0;
  bool settled = false;
  for (int i = 0; i < 240 && !settled; ++i) {
    std::this_thread::sleep_for(milliseconds(500));
    const int64_t now = memory_of_server() - before;
    settled = now - memory < (1 << 20) && now > stalled << 20;
    memory = now;
  }
  ASSERT_TRUE(settled);
  const double among = Rate(channel, 20000);
  RecordProperty("figure", std::to_string(stalled) + " stalled streams: " +
                               std::to_string(memory / stalled >> 10) +
                               " KiB each; a healthy client draws " +
                               std::to_string(among / quiet) +
                               " of what it does alone");
  // Blocks of 1 MiB, 64 KiB for the stream, and what the connection buffers.
  if (!kThreadSanitizer) {
    EXPECT_LT(memory, stalled * (3 * (1 << 20) + (64 << 10)) + (32 << 20));
  }
  // No timed test: half would mean that the device still works for them.
  EXPECT_GT(among, 0.5 * quiet);
}

// The case of a proxy that puts every client on one connection. Each stream has
// a window of its own, and the connection's is given back as its bytes arrive:
// what stalls does not hold up the rest, even before it is ended.
TEST_F(Clients, OnASharedConnectionAHealthyOneGoesOnAmongStalledOnes) {
  config_.stall_seconds = 3600;
  Start(Large());
  const auto channel = ConnectNarrow(server_->grpc_port());
  Rate(channel, 100);
  const Stalled held(channel, 64);
  ASSERT_TRUE(Eventually([&] { return InFlight() == 64; }));
  const auto start = steady_clock::now();
  Rate(channel, 150000);  // 150 MiB
  const double took = duration<double>(steady_clock::now() - start).count();
  RecordProperty("figure",
                 "64 stalled streams on the same connection, no stall timeout: "
                 "a healthy one has 150 MiB after " +
                     std::to_string(took) + " s");
  EXPECT_TRUE(Eventually([&] { return InFlight() == 64; }));
}

// One stream of many, read as it comes.
class CountingReader final
    : public grpc::ClientReadReactor<v1::StreamSamplesResponse> {
 public:
  CountingReader(Stub* stub, uint64_t count, std::atomic<int64_t>* draws,
                 std::atomic<int>* failed, std::atomic<int>* open)
      : draws_(draws), failed_(failed), open_(open) {
    request_ = DrawsOf("toy", "", 0, count);
    request_.set_block_bytes_max(64 << 10);
    ++*open_;
    stub->async()->StreamSamples(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_block()) *draws_ += response_.block().count();
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    if (!status.ok()) ++*failed_;
    --*open_;
    delete this;
  }

 private:
  grpc::ClientContext context_;
  v1::StreamSamplesRequest request_;
  v1::StreamSamplesResponse response_;
  std::atomic<int64_t>* const draws_;
  std::atomic<int>* const failed_;
  std::atomic<int>* const open_;
};

TEST(ManyStreams, AllCompleteWithinBoundedMemory) {
  const int streams = InForm(1000, 10000);
  constexpr uint64_t kDraws = 480;  // two blocks of 64 KiB of 8 x 8 draws
  TemporaryDirectory repository, state;
  testing::ToyProcess server(
      repository.path(), state.File("key"),
      {"l0=8", "l1=8", "tile=128", "calls_max=20000", "buffer_mib=1024"});
  std::string figure;
  for (const int connections : {100, 1}) {
    std::vector<std::unique_ptr<Stub>> stubs;
    for (int i = 0; i < connections; ++i) {
      stubs.push_back(v1::SamplerService::NewStub(Connect(server.port())));
    }
    std::atomic<int64_t> draws{0};
    std::atomic<int> failed{0}, open{0};
    for (int i = 0; i < streams; ++i) {
      new CountingReader(stubs[static_cast<size_t>(i % connections)].get(),
                         kDraws, &draws, &failed, &open);
    }
    const auto until = steady_clock::now() + seconds(240);
    while (open > 0 && steady_clock::now() < until) {
      std::this_thread::sleep_for(milliseconds(50));
    }
    EXPECT_EQ(open, 0);
    EXPECT_EQ(failed, 0);
    EXPECT_EQ(draws, static_cast<int64_t>(kDraws) * streams);
    figure += std::to_string(streams) + " streams on " +
              std::to_string(connections) + " connections complete; ";
  }
  const int64_t peak = MemoryOf("VmHWM", std::to_string(server.process_id()));
  RecordProperty("figure", figure + "peak RSS of the server " +
                               std::to_string(peak >> 20) + " MiB");
  EXPECT_GT(peak, 0);
  if (!kThreadSanitizer) {
    EXPECT_LT(peak, int64_t{1536} << 20);
  }
}

TEST_F(Clients, OpeningAndLeavingLeavesNothing) {
  const int cycles = InForm(10000, 100000);
  Start(ToyFlow());
  int64_t memory = 0;
  int descriptors = 0;
  const auto start = steady_clock::now();
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < 4; ++i) channels.push_back(Connect(server_->grpc_port()));
  const auto run = [&](int count, uint32_t seed) {
    std::vector<std::thread> threads;
    for (size_t t = 0; t < channels.size(); ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 own(seed + static_cast<uint32_t>(t));
        const auto stub = v1::SamplerService::NewStub(channels[t]);
        for (int i = 0; i < count / 4; ++i) {
          grpc::ClientContext context;
          v1::StreamSamplesRequest request =
              DrawsOf("toy", "", 0, uint64_t{1} << 20);
          request.set_block_bytes_max(64 << 10);
          const auto reader = stub->StreamSamples(&context, request);
          v1::StreamSamplesResponse response;
          const uint32_t phase = own() % 4;
          for (uint32_t read = 0; read < phase; ++read) reader->Read(&response);
          context.TryCancel();
          while (reader->Read(&response)) {
          }
          reader->Finish();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  run(cycles / 5, 1);
  memory = MemoryOf("VmRSS");
  descriptors = OpenDescriptors();
  run(cycles, 100);
  EXPECT_TRUE(Eventually([&] {
    return InFlight() == 0 &&
           Metric("latticed_queue_configurations{model=\"toy\"}") == 0;
  }));
  const double growth =
      static_cast<double>(MemoryOf("VmRSS") - memory) / (1 << 20);
  RecordProperty(
      "figure",
      std::to_string(cycles) + " streams opened and cancelled, " +
          std::to_string(static_cast<int>(
              cycles / duration<double>(steady_clock::now() - start).count())) +
          "/s: RSS +" + std::to_string(growth) + " MiB, descriptors +" +
          std::to_string(OpenDescriptors() - descriptors));
  EXPECT_EQ(OpenDescriptors(), descriptors);
  // 100 bytes a cycle would be 1 MiB in the short form.
  if (!kFreedMemoryStays) {
    EXPECT_LT(growth, 8 + cycles / 10000.0);
  }
  EXPECT_TRUE(Stream(channels[0], DrawsOf("toy", "s", 0, 100)).status.ok());
}

// Work whose deadline has passed is not begun: once the last deadline is over,
// at most the tile in flight is drawn.
TEST_F(Clients, NoWorkIsBegunAfterADeadline) {
  ToyFlow flow;
  flow.delay_us = 2000;
  Start(flow);
  const int calls = InForm(100, 1000);
  std::mt19937 random(7);
  int64_t late = 0;
  for (int round = 0; round < calls / 20; ++round) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 20; ++i) {
      const int limit = 1 + static_cast<int>(random() % 400);
      threads.emplace_back([&, limit] {
        const auto stub =
            v1::SamplerService::NewStub(Connect(server_->grpc_port()));
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() +
                             milliseconds(limit));
        const auto reader = stub->StreamSamples(
            &context, DrawsOf("toy", "", 0, uint64_t{1} << 30));
        v1::StreamSamplesResponse response;
        while (reader->Read(&response)) {
        }
        EXPECT_EQ(reader->Finish().error_code(),
                  grpc::StatusCode::DEADLINE_EXCEEDED);
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(Eventually([&] { return InFlight() == 0; }));
    // Nobody waits any more; a tile may be in flight.
    const int64_t tiles = ToyTiles();
    std::this_thread::sleep_for(milliseconds(50));
    late = std::max(late, ToyTiles() - tiles);
  }
  RecordProperty("figure", std::to_string(calls) +
                               " calls with deadlines of 1 to 400 ms: " +
                               std::to_string(late) +
                               " tiles at most after the last one");
  EXPECT_LE(late, 1);
}

}  // namespace
}  // namespace latticed
