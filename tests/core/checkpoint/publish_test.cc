#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <limits>
#include <random>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/repository.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/checkpoint/scratch.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

constexpr char kModel[] = "phi4-l8";

// Large enough that a kill often falls between two writes.
Weights SomeWeights() {
  Weights weights = TinyWeights();
  weights["bulk"] = {{64, 1024}, std::vector<float>(65536, 0.25F)};
  return weights;
}

[[noreturn]] void PublishForever(const std::string& root) {
  for (;;) {
    const absl::StatusOr<Checkpoint> done =
        Publish(root, kModel, TinyManifest(), SomeWeights());
    if (!done.ok()) {
      std::cerr << done.status() << std::endl;
      _exit(1);
    }
  }
}

std::vector<std::string> Entries(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

TEST(Publish, KillingThePublisherLeavesCompleteVersionsOnly) {
  Scratch scratch;
  const std::string root = scratch / "models";
  // Kills fall anywhere within the first few publishes of a publisher, however
  // slow the machine is.
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(Publish(root, kModel, TinyManifest(), SomeWeights()).ok());
  const auto one = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begin);
  std::mt19937 random(3);
  std::uniform_int_distribution<int64_t> delay(0, 3 * one.count());
  int orphans = 0;
  for (int round = 0; round < 60; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) PublishForever(root);
    std::this_thread::sleep_for(std::chrono::microseconds(delay(random)));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the publisher failed";
  }
  int64_t expected = 0;
  for (const std::string& name : Entries(root + "/" + kModel)) {
    if (name.starts_with(".tmp-")) {
      ++orphans;
      continue;
    }
    ++expected;
    int64_t version = 0;
    ASSERT_TRUE(absl::SimpleAtoi(name, &version)) << name;
    const absl::StatusOr<Checkpoint> read = ReadVersion(root, kModel, version);
    EXPECT_TRUE(read.ok()) << read.status();
  }
  EXPECT_GT(expected, 1);
  EXPECT_GT(orphans, 0) << "no kill hit a publish: the test shows nothing";
  EXPECT_EQ(ListVersions(root, kModel)->size(), expected);

  // What was left does not hinder the next one, and goes once it is old.
  const auto long_ago =
      fs::file_time_type::clock::now() - std::chrono::minutes(61);
  for (const std::string& name : Entries(root + "/" + kModel)) {
    if (name.starts_with(".tmp-")) {
      fs::last_write_time(root + "/" + kModel + "/" + name, long_ago);
    }
  }
  fs::create_directory(root + "/" + kModel + "/.tmp-young");
  const absl::StatusOr<Checkpoint> next =
      Publish(root, kModel, TinyManifest(), SomeWeights());
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->manifest.version(), expected + 1);
  for (const std::string& name : Entries(root + "/" + kModel)) {
    EXPECT_TRUE(!name.starts_with(".tmp-") || name == ".tmp-young") << name;
  }
}

TEST(Publish, ConcurrentPublishersNeverShareANumber) {
  Scratch scratch;
  const std::string root = scratch / "models";
  constexpr int kPublishers = 4;
  constexpr int kEach = 15;
  std::vector<pid_t> children;
  for (int i = 0; i < kPublishers; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int j = 0; j < kEach; ++j) {
        v1::Manifest manifest = TinyManifest();
        manifest.mutable_training()->set_command(absl::StrCat(i, "/", j));
        const absl::StatusOr<Checkpoint> done =
            Publish(root, kModel, manifest, TinyWeights());
        if (!done.ok()) _exit(1);
      }
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  std::set<std::string> commands;
  std::set<std::string> digests;
  for (int version = 1; version <= kPublishers * kEach; ++version) {
    const absl::StatusOr<Checkpoint> read = ReadVersion(root, kModel, version);
    ASSERT_TRUE(read.ok()) << read.status();
    commands.insert(read->manifest.training().command());
    digests.insert(read->digest);
  }
  EXPECT_EQ(commands.size(), kPublishers * kEach);
  EXPECT_EQ(digests.size(), kPublishers * kEach);
}

TEST(Publish, NumbersGoOnAboveADamagedVersion) {
  Scratch scratch;
  fs::create_directories(scratch / "models/phi4-l8/41");
  const absl::StatusOr<Checkpoint> done =
      Publish(scratch / "models", kModel, TinyManifest(), TinyWeights());
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->manifest.version(), 42);
}

TEST(Publish, ReturnsWhatAReaderGets) {
  Scratch scratch;
  const absl::StatusOr<Checkpoint> done =
      Publish(scratch / "a/b/models/", kModel, TinyManifest(), TinyWeights());
  ASSERT_TRUE(done.ok()) << done.status();
  const absl::StatusOr<Checkpoint> read =
      ReadVersion(scratch / "a/b/models", kModel, 1);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(done->digest, read->digest);
  EXPECT_EQ(done->manifest.SerializeAsString(),
            read->manifest.SerializeAsString());
}

TEST(Publish, BadInputLeavesNothing) {
  Scratch scratch;
  const std::string root = scratch / "models";
  Weights weights = TinyWeights();
  weights["khat"].values[1] = std::numeric_limits<float>::quiet_NaN();
  const absl::Status nan =
      Publish(root, kModel, TinyManifest(), weights).status();
  EXPECT_TRUE(absl::IsInvalidArgument(nan)) << nan;
  EXPECT_THAT(std::string(nan.message()), HasSubstr("khat"));
  weights = TinyWeights();
  weights["khat"].shape = {7};
  EXPECT_TRUE(absl::IsInvalidArgument(
      Publish(root, kModel, TinyManifest(), weights).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Publish(root, kModel, TinyManifest(), {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Publish(root, kModel, v1::Manifest(), TinyWeights()).status()));
  EXPECT_FALSE(fs::exists(root));
}

// A file size limit stands in for a full disk: write fails half-way.
TEST(Publish, FailedWriteLeavesNothing) {
  Scratch scratch;
  const std::string root = scratch / "models";
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {100000, 100000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(2);
    const bool failed =
        !Publish(root, kModel, TinyManifest(), SomeWeights()).ok();
    _exit(failed ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_THAT(Entries(root + "/" + kModel), ::testing::IsEmpty());
}

}  // namespace
}  // namespace latticed
