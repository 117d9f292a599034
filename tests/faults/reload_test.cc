// F29 and the cardinality of metrics: reloads without end, a third of them of
// versions that fail.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "gmock/gmock.h"
#include "tests/faults/process_usage.h"
#include "tests/server/serving.h"
#include "tests/support/long_form.h"
#include "tests/support/sanitizers.h"

namespace latticed {
namespace {

// In the metrics page.
int Series(const Server& server) {
  int count = 0;
  std::istringstream page(HttpGet(server.http_port(), "/metrics"));
  for (std::string line; std::getline(page, line);) {
    count += line.rfind("latticed_", 0) == 0 ? 1 : 0;
  }
  return count;
}

TEST(Reloads, LeaveNeitherMemoryNorDescriptorsNorSeries) {
  TemporaryDirectory repository;
  Config config = TestConfig(repository.path());
  config.poll_seconds = 3600;  // by request only
  const auto server = [&] {
    PublishToy(repository.path(), ToyFlow());
    return StartServer(config);
  }();
  ASSERT_NE(server, nullptr);
  const auto channel = Connect(server->grpc_port());
  const auto admin = v1::AdminService::NewStub(Connect(server->admin_port()));

  // Callers whose every reply is checked against the version it names.
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, replies{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      const auto own = Connect(server->grpc_port());
      while (!stop) {
        failed += Stream(own, DrawsOf("toy", "s", 0, 64)).status.ok() ? 0 : 1;
        ++replies;
      }
    });
  }

  const int reloads = InForm(200, 1000);
  const int settled = reloads / 4;  // allocators and caches are warm by then
  int64_t memory = 0;
  int descriptors = 0;
  int series_settled = 0;
  int live = 0;
  for (int i = 0; i < reloads; ++i) {
    ToyFlow flow;
    flow.scale = 1.0f + 1e-4f * static_cast<float>(i);
    // Ten reloads: three that fail, each in another way.
    flow.unusable = i % 10 == 3;
    flow.nan_every = i % 10 == 6 ? 1 : 0;
    const Checkpoint published = PublishToy(repository.path(), flow);
    const std::string folder =
        repository.File("toy/" + std::to_string(published.manifest.version()));
    if (i % 10 == 9) {
      std::filesystem::resize_file(folder + "/weights.safetensors", 40);
    }
    grpc::ClientContext context;
    v1::RefreshModelResponse response;
    ASSERT_TRUE(admin->RefreshModel(&context, {}, &response).ok());
    ASSERT_GT(response.versions_size(), 0);
    live += response.versions(0).state() == v1::VERSION_STATE_LIVE ? 1 : 0;
    if (i == settled) {
      memory = MemoryOf("VmRSS");
      descriptors = OpenDescriptors();
      series_settled = Series(*server);
    }
    // The repository itself does not grow without end either.
    if (i > 20) {
      std::filesystem::remove_all(repository.File(
          "toy/" + std::to_string(published.manifest.version() - 20)));
    }
  }
  const double growth =
      static_cast<double>(MemoryOf("VmRSS") - memory) / (1 << 20);
  const int leaked = OpenDescriptors() - descriptors;
  stop = true;
  for (std::thread& caller : callers) caller.join();
  const int series = Series(*server);
  RecordProperty(
      "figure",
      std::to_string(reloads) + " reloads, " + std::to_string(reloads - live) +
          " failing; " + std::to_string(replies) + " replies, " +
          std::to_string(failed) + " failed; RSS " + std::to_string(growth) +
          " MiB more than after the " + std::to_string(settled) + "th; " +
          std::to_string(series) + " series");
  EXPECT_EQ(live, reloads * 7 / 10);
  EXPECT_EQ(failed, 0);
  EXPECT_GT(replies, 0);
  // Less than 1 MiB in 100 reloads, and 4 for the noise of an allocator with a
  // dozen threads.
  if (!kFreedMemoryStays) {
    EXPECT_LT(growth, 4 + (reloads - settled) / 100.0);
  }
  EXPECT_LE(std::abs(leaked), 4) << "connections of the callers come and go";
  // As many as there were: no version leaves any behind. All but some 80 of
  // them are there without any model, most of them methods by codes.
  EXPECT_EQ(series, series_settled);
  EXPECT_LE(series, 1000);
}

}  // namespace
}  // namespace latticed
