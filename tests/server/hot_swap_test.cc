// Versions that come and go under load, and versions that must not.
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "gmock/gmock.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class HotSwap : public ::testing::Test {
 protected:
  void Start() {
    server_ = StartServer(TestConfig(repository_.path()));
    ASSERT_NE(server_, nullptr);
    channel_ = Connect(server_->grpc_port());
    models_ = v1::ModelService::NewStub(channel_);
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
  bool WaitFor(int64_t version, v1::VersionState state) {
    return Eventually([&] { return Version(version).state() == state; });
  }
  int64_t LiveVersion() {
    return Stream(channel_, DrawsOf("toy", "s", 0, 1)).header.version();
  }

  TemporaryDirectory repository_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ModelService::Stub> models_;
};

// The content of every reply belongs to the digest it names.
TEST_F(HotSwap, TwentySwapsUnderSixteenCallersFailNoRequest) {
  constexpr int kSwaps = 20;
  std::vector<ToyFlow> flows(kSwaps + 1);
  for (int i = 0; i <= kSwaps; ++i) {
    flows[static_cast<size_t>(i)].scale = 1.0f + 0.01f * static_cast<float>(i);
  }
  PublishToy(repository_.path(), flows[0]);
  Start();
  std::atomic<bool> stop{false};
  std::atomic<int> replies{0};
  std::vector<std::map<int64_t, std::string>> seen(16);
  std::vector<std::thread> callers;
  for (size_t c = 0; c < 16; ++c) {
    callers.emplace_back([&, c] {
      const auto channel = Connect(server_->grpc_port());
      const std::string name = "caller " + std::to_string(c);
      uint64_t first = 0;
      while (!stop) {
        v1::StreamSamplesRequest request = DrawsOf("toy", name, first, 300);
        request.set_block_bytes_max(65536);
        const bool follow = c % 4 == 0;
        if (follow) {
          request.mutable_model()->set_policy(v1::VERSION_POLICY_FOLLOW);
          request.set_count(3000);
        }
        const StreamResult result = Stream(channel, request);
        ASSERT_TRUE(result.status.ok()) << result.status.error_message();
        ASSERT_EQ(result.log_q.size(), request.count());
        if (!follow) {
          ASSERT_TRUE(result.changes.empty());
        }
        // Which version each index is said to come from.
        const v1::Provenance* from = &result.header;
        size_t change = 0;
        for (uint64_t i = 0; i < request.count(); i += 37) {
          while (change < result.changes.size() &&
                 result.changes[change].provenance().first_index() <=
                     first + i) {
            from = &result.changes[change++].provenance();
          }
          const ToyFlow& flow = flows[static_cast<size_t>(from->version() - 1)];
          const ToyDraw draw = DrawToy(flow, NamedStream(name), first + i);
          ASSERT_EQ(result.log_q[i], draw.log_q) << from->version();
          ASSERT_EQ(result.phi[16 * i], draw.phi[0]);
          seen[c][from->version()] = from->digest();
        }
        first += request.count();
        ++replies;
      }
    });
  }
  std::map<int64_t, std::string> digests;
  for (int i = 1; i <= kSwaps; ++i) {
    const Checkpoint published =
        PublishToy(repository_.path(), flows[static_cast<size_t>(i)]);
    digests[i + 1] = published.digest;
    EXPECT_TRUE(WaitFor(i + 1, v1::VERSION_STATE_LIVE));
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  std::map<int64_t, std::string> all;
  for (const auto& one : seen) {
    for (const auto& [version, digest] : one) {
      if (version > 1) {
        EXPECT_EQ(digest, digests[version]);
      }
      all[version] = digest;
    }
  }
  EXPECT_GT(all.size(), kSwaps / 2) << "callers saw too few versions";
  EXPECT_GT(replies.load(), 100);
  // Two stay loaded; the worker frees the others.
  EXPECT_TRUE(Eventually([] { return ToySamplersAlive() == 2; }))
      << ToySamplersAlive();
}

TEST_F(HotSwap, APinnedStreamFinishesOnItsVersion) {
  ToyFlow slow;
  slow.delay_us = 2000;
  PublishToy(repository_.path(), slow);
  Start();
  StreamResult result;
  std::thread caller([&] {
    v1::StreamSamplesRequest request = DrawsOf("toy", "s", 0, 16 * 400);
    request.set_block_bytes_max(65536);
    result = Stream(channel_, request);
  });
  ToyFlow next;
  for (int version = 2; version <= 4; ++version) {
    next.scale += 0.1f;
    PublishToy(repository_.path(), next);
    EXPECT_TRUE(WaitFor(version, v1::VERSION_STATE_LIVE));
  }
  EXPECT_EQ(Version(1).state(), v1::VERSION_STATE_RETIRED);
  caller.join();
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.header.version(), 1);
  ASSERT_EQ(result.log_q.size(), 16 * 400);
  EXPECT_EQ(result.log_q.back(),
            DrawToy(slow, NamedStream("s"), 16 * 400 - 1).log_q);
}

TEST_F(HotSwap, SlotsChooseTheLiveAndThePreviousVersion) {
  ToyFlow flow;
  PublishToy(repository_.path(), flow);
  Start();
  flow.scale = 2;
  PublishToy(repository_.path(), flow);
  ASSERT_TRUE(WaitFor(2, v1::VERSION_STATE_LIVE));
  v1::StreamSamplesRequest request = DrawsOf("toy", "s", 0, 1);
  request.mutable_model()->set_slot(v1::SLOT_PREVIOUS);
  EXPECT_EQ(Stream(channel_, request).header.version(), 1);
  request.mutable_model()->set_slot(v1::SLOT_LIVE);
  EXPECT_EQ(Stream(channel_, request).header.version(), 2);
}

// Every kind of damage: the reason is told, the old version serves.
TEST_F(HotSwap, ABadVersionIsRejectedOnceAndTheLiveOneServes) {
  PublishToy(repository_.path(), ToyFlow());
  Start();
  ToyFlow unusable;
  unusable.unusable = true;
  PublishToy(repository_.path(), unusable);
  ToyFlow nans;
  nans.nan_every = 10;
  PublishToy(repository_.path(), nans);
  ASSERT_TRUE(WaitFor(2, v1::VERSION_STATE_REJECTED));
  EXPECT_THAT(Version(2).reason(), HasSubstr("wrong shape"));
  ASSERT_TRUE(WaitFor(3, v1::VERSION_STATE_REJECTED));
  EXPECT_THAT(Version(3).reason(), HasSubstr("6 of 64 draws"));

  // A truncated file: damaged where no server looks, then moved into place.
  TemporaryDirectory elsewhere;
  for (int i = 0; i < 4; ++i) PublishToy(elsewhere.path(), ToyFlow());
  const std::string weights = elsewhere.File("toy/4/weights.safetensors");
  fs::resize_file(weights, fs::file_size(weights) - 1);
  fs::rename(elsewhere.File("toy/4"), repository_.File("toy/4"));
  ASSERT_TRUE(WaitFor(4, v1::VERSION_STATE_REJECTED));
  EXPECT_THAT(Version(4).reason(), HasSubstr("weights.safetensors"));
  EXPECT_EQ(LiveVersion(), 1);

  // Not tried again at every poll.
  const std::string series =
      "latticed_model_loads_total{model=\"toy\",reason=\"damaged\","
      "result=\"rejected\"}";
  EXPECT_EQ(MetricValue(server_->metrics().Text(), series), 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(MetricValue(server_->metrics().Text(), series), 1);
  EXPECT_EQ(MetricValue(server_->metrics().Text(),
                        "latticed_model_loads_total{model=\"toy\",reason="
                        "\"non_finite\",result=\"rejected\"}"),
            1);

  ToyFlow good;
  good.scale = 1.5f;
  PublishToy(repository_.path(), good);
  ASSERT_TRUE(WaitFor(5, v1::VERSION_STATE_LIVE));
  v1::StreamSamplesRequest request = DrawsOf("toy", "s", 0, 1);
  request.mutable_model()->set_version(4);
  const grpc::Status status = Stream(channel_, request).status;
  EXPECT_EQ(CodeAndReason(status), "FAILED_PRECONDITION VERSION_RETIRED");
  EXPECT_THAT(status.error_message(), HasSubstr("REJECTED"));
}

TEST_F(HotSwap, AtStartTheNewestValidVersionGoesLive) {
  PublishToy(repository_.path(), ToyFlow());
  PublishToy(repository_.path(), ToyFlow());
  ToyFlow bad;
  bad.unusable = true;
  PublishToy(repository_.path(), bad);
  Start();
  EXPECT_EQ(LiveVersion(), 2);
  EXPECT_EQ(Version(3).state(), v1::VERSION_STATE_REJECTED);
  EXPECT_EQ(Version(1).state(), v1::VERSION_STATE_DISCOVERED);
}

TEST_F(HotSwap, ALostRepositoryUnloadsNothing) {
  PublishToy(repository_.path(), ToyFlow());
  Start();
  const std::string aside = repository_.path() + ".aside";
  fs::rename(repository_.path(), aside);
  const char* errors = "latticed_repository_errors_total{kind=\"repository\"}";
  EXPECT_TRUE(Eventually(
      [&] { return MetricValue(server_->metrics().Text(), errors) >= 2; }));
  EXPECT_EQ(LiveVersion(), 1);
  fs::create_directory(repository_.path());  // there, but empty
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(LiveVersion(), 1);
  fs::remove(repository_.path());
  fs::rename(aside, repository_.path());
  ToyFlow next;
  next.scale = 1.5f;
  PublishToy(repository_.path(), next);
  EXPECT_TRUE(WaitFor(2, v1::VERSION_STATE_LIVE));
}

TEST_F(HotSwap, AModelThatAppearsLaterIsServed) {
  Start();
  EXPECT_EQ(server_->models(), 0);
  const grpc::Status status =
      Stream(channel_, DrawsOf("toy", "s", 0, 1)).status;
  EXPECT_EQ(CodeAndReason(status), "UNAVAILABLE NO_LIVE_VERSION");
  EXPECT_TRUE(PartsOf(status).retry.has_value());
  EXPECT_THAT(HttpGet(server_->http_port(), "/readyz"), HasSubstr("503"));
  PublishToy(repository_.path(), ToyFlow());
  EXPECT_TRUE(Eventually([&] { return LiveVersion() == 1; }));
  EXPECT_THAT(HttpGet(server_->http_port(), "/readyz"), HasSubstr("200"));
}

TEST_F(HotSwap, AFollowedModelMayNotChangeItsLattice) {
  ToyFlow flow;
  flow.delay_us = 2000;
  PublishToy(repository_.path(), flow);
  Start();
  StreamResult result;
  std::thread caller([&] {
    v1::StreamSamplesRequest request = DrawsOf("toy", "s", 0, 1 << 20);
    request.set_block_bytes_max(65536);
    request.mutable_model()->set_policy(v1::VERSION_POLICY_FOLLOW);
    result = Stream(channel_, request);
  });
  flow.l1 = 8;
  PublishToy(repository_.path(), flow);
  caller.join();
  EXPECT_EQ(CodeAndReason(result.status),
            "FAILED_PRECONDITION ACTION_MISMATCH");
  EXPECT_EQ(PartsOf(result.status).info.metadata().at("next_index"),
            std::to_string(result.next_index));
}

}  // namespace
}  // namespace latticed
