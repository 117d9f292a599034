// What replicas promise together, as processes that are killed. The long form
// runs with LATTICED_LONG_TESTS=1 in the environment.
#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <random>
#include <thread>
#include <unordered_set>

#include "core/wire/block.h"
#include "gmock/gmock.h"
#include "tests/client/toy_process.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using testing::ToyProcess;
using Clock = std::chrono::steady_clock;

bool Long() { return std::getenv("LATTICED_LONG_TESTS") != nullptr; }

class Replicas : public ::testing::Test {
 protected:
  void Start(int count, std::vector<std::string> flow) {
    for (int i = 0; i < count; ++i) {
      replicas_.push_back(std::make_unique<ToyProcess>(
          repository_.path(), key_.File("key"),
          i == 0 ? flow : std::vector<std::string>()));
    }
  }
  TemporaryDirectory repository_, key_;
  std::vector<std::unique_ptr<ToyProcess>> replicas_;
};

// 10^6 streams over 20 kills, or as many as eight seconds allow over 2.
TEST_F(Replicas, NoFreshStreamIsEverRepeated) {
  Start(3, {"scale=1.1", "tile=16"});
  const size_t wanted = Long() ? 1000000 : 100000;
  const int kills_wanted = Long() ? 20 : 2;
  const auto due = Clock::now() + std::chrono::seconds(Long() ? 3600 : 8);
  std::mutex mutex;
  std::unordered_set<std::string> streams, configurations;
  size_t repeated = 0;
  std::atomic<bool> stop{false};
  std::vector<std::thread> clients;
  for (int c = 0; c < 6; ++c) {
    clients.emplace_back([&, c] {
      v1::SampleRequest request;
      request.mutable_model()->set_model("toy");
      request.set_count(1);
      request.add_content(v1::CONTENT_PHI);
      const auto stub = v1::SamplerService::NewStub(
          Connect(replicas_[static_cast<size_t>(c) % 3]->port()));
      while (!stop) {
        grpc::ClientContext context;
        context.set_wait_for_ready(true);
        context.set_deadline(std::chrono::system_clock::now() +
                             std::chrono::seconds(10));
        v1::SampleResponse response;
        // Killed meanwhile: nothing was received, so nothing counts.
        if (!stub->Sample(&context, request, &response).ok()) continue;
        const std::lock_guard<std::mutex> lock(mutex);
        repeated +=
            streams.insert(response.provenance().stream_id()).second ? 0 : 1;
        repeated +=
            configurations.insert(response.block().phi()).second ? 0 : 1;
        if (streams.size() >= wanted) stop = true;
      }
    });
  }
  int kills = 0;
  // However slow the machine is, the kills happen.
  while (!stop && (Clock::now() < due || kills < kills_wanted)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    size_t have = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      have = streams.size();
    }
    const double done =
        std::max(static_cast<double>(have) / static_cast<double>(wanted),
                 1 - std::chrono::duration<double>(due - Clock::now()).count() /
                         (Long() ? 3600 : 8));
    if (kills < kills_wanted && done * (kills_wanted + 1) > kills + 1) {
      ToyProcess& replica = *replicas_[static_cast<size_t>(kills++) % 3];
      replica.Kill();
      replica.Start();
    }
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(repeated, 0);
  EXPECT_EQ(kills, kills_wanted);
  EXPECT_GE(streams.size(), Long() ? wanted : 1000);
  EXPECT_EQ(streams.size(), configurations.size());
  RecordProperty("streams", static_cast<int>(streams.size()));
}

// 10^4 (stream, index) pairs, asked for in calls of random sizes by 16 clients
// at a time, of all replicas: the bytes of the flow's own formula.
TEST_F(Replicas, ADrawIsTheSameBytesInAnyCompany) {
  Start(2, {"scale=1.1", "tile=16"});
  ToyFlow flow;
  flow.scale = 1.1f;
  std::atomic<int> pairs{0}, wrong{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 16; ++c) {
    clients.emplace_back([&, c] {
      std::mt19937_64 random(static_cast<uint64_t>(c));
      const auto channel =
          Connect(replicas_[static_cast<size_t>(c) % 2]->port());
      while (pairs < (Long() ? 200000 : 10000)) {
        const std::string name = "stream " + std::to_string(random() % 7);
        // Few enough streams and indices that clients meet.
        const uint64_t first =
            random() % 200 + (random() % 2 == 0 ? 0 : uint64_t{1} << 60);
        const uint64_t count = 1 + random() % (random() % 8 == 0 ? 300 : 20);
        const StreamResult result =
            Stream(channel, DrawsOf("toy", name, first, count));
        if (!result.status.ok() || result.log_q.size() != count) {
          ++wrong;
          return;
        }
        for (uint64_t i = 0; i < count; ++i) {
          const ToyDraw draw = DrawToy(flow, NamedStream(name), first + i);
          const bool same =
              result.log_q[i] == draw.log_q &&
              result.action[i] == draw.action &&
              std::equal(draw.phi.begin(), draw.phi.end(),
                         &result.phi[static_cast<size_t>(i) * 16]);
          wrong += same ? 0 : 1;
        }
        pairs += static_cast<int>(count);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(pairs, 10000);
}

// Interleaved, so that both meet the same load; the medians are held to 1.5,
// where walking to the index would be 10^14 times slower.
TEST_F(Replicas, AFarIndexIsAsFastAsTheFirst) {
  Start(1, {"scale=1.1", "tile=128"});
  const auto channel = Connect(replicas_[0]->port());
  const auto seconds = [&](uint64_t first) {
    const auto start = Clock::now();
    EXPECT_TRUE(
        Stream(channel, DrawsOf("toy", "far", first, 4096)).status.ok());
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  seconds(0);
  std::vector<double> near, far;
  for (int i = 0; i < (Long() ? 200 : 15); ++i) {
    near.push_back(seconds(0));
    far.push_back(seconds(uint64_t{1} << 60));
  }
  std::sort(near.begin(), near.end());
  std::sort(far.begin(), far.end());
  const double ratio = far[far.size() / 2] / near[near.size() / 2];
  EXPECT_LT(ratio, 1.5);
  RecordProperty("ratio_percent", static_cast<int>(100 * ratio));
}

// 20 kills in the middle of a chain, 200 in the long form: each time the chain
// goes on from the last token elsewhere.
TEST_F(Replicas, AChainOutlivesItsServers) {
  Start(2, {"scale=1.3", "tile=16", "delay_us=300"});
  const int kills_wanted = Long() ? 200 : 20;
  v1::RunChainRequest start;
  start.mutable_chain()->mutable_model()->set_model("toy");
  start.mutable_chain()->mutable_stream()->set_name("outlives");
  start.mutable_chain()->set_thinning(3);
  start.set_block_bytes_max(65536);
  ChainResult pieces;
  uint64_t steps = 0;
  for (int kills = 0; kills <= kills_wanted; ++kills) {
    ToyProcess& replica = *replicas_[static_cast<size_t>(kills) % 2];
    v1::RunChainRequest request = start;
    if (!pieces.token.empty()) request.set_token(pieces.token);
    request.set_steps(kills == kills_wanted ? 5000 : uint64_t{1} << 30);
    const auto stub = v1::ChainService::NewStub(Connect(replica.port()));
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    const auto reader = stub->RunChain(&context, request);
    v1::RunChainResponse response;
    int blocks = 0;
    while (reader->Read(&response)) {
      if (!response.has_block()) continue;
      ASSERT_EQ(response.block().first_step(), steps);
      steps += response.block().steps();
      AppendChainBlock(response.block(), &pieces);
      // What is on its way when the server dies is not received, or is: the
      // token that was is the one to go on from.
      if (++blocks == 1 + kills % 3 && kills < kills_wanted) replica.Kill();
    }
    const grpc::Status status = reader->Finish();
    EXPECT_EQ(status.ok(), kills == kills_wanted) << status.error_message();
    if (kills < kills_wanted) replica.Start();
  }
  v1::RunChainRequest whole_request = start;
  whole_request.set_steps(steps);
  const ChainResult whole =
      RunChain(Connect(replicas_[0]->port()), whole_request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  EXPECT_EQ(pieces.index, whole.index);
  EXPECT_EQ(pieces.log_q, whole.log_q);
  EXPECT_EQ(pieces.phi, whole.phi);
  EXPECT_EQ(pieces.accept, whole.accept);
  EXPECT_EQ(pieces.token, whole.token);
}

}  // namespace
}  // namespace latticed
