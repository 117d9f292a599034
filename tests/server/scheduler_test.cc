// Which draws go into which tile; the test plays the worker.
#include "server/scheduler.h"

#include <map>

#include "gtest/gtest.h"
#include "server/executor.h"

namespace latticed {
namespace {

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() : executor_(std::make_shared<Executor>(1)) {
    a_ = MakeVersion("a", 8);
    b_ = MakeVersion("b", 2);
    Limit({});
  }
  ~SchedulerTest() override {
    // Jobs hold blocks whose end the scheduler hears of.
    jobs_.clear();
    executor_->Stop();
  }

  void Limit(const SchedulerLimits& limits) {
    scheduler_ = std::make_shared<Scheduler>(limits, executor_, metrics_);
  }
  VersionRef MakeVersion(const std::string& model, int64_t length) {
    auto version = std::make_shared<ServedVersion>();
    version->model = model;
    version->digest = std::string(64, '0');
    version->lattice = {length, length};
    version->tile = 16;
    metrics_->AddModel(model);
    return version;
  }
  grpc::Status Submit(const VersionRef& version, uint64_t count,
                      int64_t block_draws = 64,
                      const std::string& peer = "peer") {
    DrawRequest request;
    request.version = version;
    request.stream = NamedStream(std::to_string(jobs_.size()));
    request.count = count;
    request.block_draws = block_draws;
    request.peer = peer;
    request.background = background_;
    request.has_place = has_place_;
    request.given = given_;
    request.phi = given_ == nullptr;
    std::unique_ptr<DrawJob> job;
    const grpc::Status status = scheduler_->Submit(std::move(request), &job);
    jobs_.push_back(std::move(job));
    return status;
  }
  // Draws of each call, by its place in jobs_, in the next tile.
  std::map<size_t, int64_t> Next(std::string* model = nullptr,
                                 bool finish = true) {
    Tile tile;
    EXPECT_TRUE(scheduler_->NextTile(&tile));
    std::map<size_t, int64_t> counts;
    for (const TilePiece& piece : tile.pieces) {
      for (size_t j = 0; j < jobs_.size(); ++j) {
        if (piece.stream == NamedStream(std::to_string(j))) {
          counts[j] += piece.count;
        }
      }
      EXPECT_EQ(piece.block->version, tile.version);
    }
    if (model != nullptr && tile.version != nullptr) {
      *model = tile.version->model;
    }
    if (finish) scheduler_->FinishTile(tile);
    return counts;
  }

  const std::shared_ptr<Metrics> metrics_ = std::make_shared<Metrics>();
  std::shared_ptr<Executor> executor_;
  std::shared_ptr<Scheduler> scheduler_;
  VersionRef a_, b_;
  std::vector<std::unique_ptr<DrawJob>> jobs_;
  // Of what Submit asks for.
  bool background_ = false;
  bool has_place_ = false;
  std::shared_ptr<const std::vector<float>> given_;
};

using Counts = std::map<size_t, int64_t>;

TEST_F(SchedulerTest, ATileIsFilledUpFromOtherCallsOfTheVersion) {
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Submit(a_, 5).ok());
  ASSERT_TRUE(Submit(b_, 5).ok());
  EXPECT_EQ(Next(), (Counts{{0, 5}, {1, 5}, {2, 5}, {3, 1}}));
  EXPECT_EQ(Next(), (Counts{{3, 4}, {4, 5}}));
  std::string model;
  EXPECT_EQ(Next(&model), (Counts{{5, 5}}));
  EXPECT_EQ(model, "b");
  for (const auto& job : jobs_) {
    const std::unique_ptr<Block> block = job->Pop();
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(block->count, 5);
    EXPECT_TRUE(job->Done());
  }
}

TEST_F(SchedulerTest, ABlockThatEndsInATileIsFollowedByTheNext) {
  ASSERT_TRUE(Submit(a_, 40, /*block_draws=*/10).ok());
  EXPECT_EQ(Next(), (Counts{{0, 16}}));
  const std::unique_ptr<Block> first = jobs_[0]->Pop();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->first_index, 0);
  EXPECT_EQ(jobs_[0]->Pop(), nullptr) << "six of ten are not full";
}

TEST_F(SchedulerTest, TurnsAreFairInSites) {
  // One turn is a tile of a and, as many sites, 16 tiles of b.
  Limit({.blocks_ahead = 16, .quantum_sites = 16 * 64});
  ASSERT_TRUE(Submit(a_, 1 << 20, 1 << 12).ok());
  ASSERT_TRUE(Submit(b_, 1 << 20, 1 << 12).ok());
  std::map<std::string, int64_t> sites;
  for (int i = 0; i < 40; ++i) Next();  // both have arrived
  for (int i = 0; i < 680; ++i) {
    std::string model;
    const Counts counts = Next(&model);
    for (const auto& [job, count] : counts) {
      sites[model] += count * (model == "a" ? 64 : 4);
    }
  }
  EXPECT_NEAR(static_cast<double>(sites["a"]) / static_cast<double>(sites["b"]),
              1, 0.06);  // at most two turns of 40 are cut off
}

TEST_F(SchedulerTest, AnArrivalIsNext) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Submit(a_, 1 << 20, /*block_draws=*/1 << 14).ok());
  }
  for (int i = 0; i < 100; ++i) Next();
  ASSERT_TRUE(Submit(a_, 16).ok());
  int tiles = 1;
  while (Next().count(20) == 0) ++tiles;
  EXPECT_LE(tiles, 2);
}

// Arrivals without end do not starve a long call.
TEST_F(SchedulerTest, ArrivalsLeaveEveryFourthTurn) {
  Limit({.quantum_sites = 1});
  ASSERT_TRUE(Submit(a_, 1 << 20, 1 << 14).ok());
  Next();  // is an arrival itself
  Next();
  int served = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Submit(a_, 16).ok());
    served += Next().count(0) > 0 ? 1 : 0;
  }
  EXPECT_GE(served, 20);
}

TEST_F(SchedulerTest, NobodyGetsMoreBlocksAheadThanTheLimit) {
  Limit({.blocks_ahead = 2});
  ASSERT_TRUE(Submit(a_, 1000, /*block_draws=*/16).ok());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Next(), (Counts{{0, 16}}));
  EXPECT_EQ(Next(), Counts()) << "three blocks wait to be sent";
  std::unique_ptr<Block> block = jobs_[0]->Pop();
  EXPECT_EQ(Next(), Counts()) << "and are held until they are freed";
  block = nullptr;
  EXPECT_EQ(Next(), (Counts{{0, 16}}));
}

TEST_F(SchedulerTest, BytesAreBoundedAndEveryCallKeepsOneBlock) {
  // Room for four blocks of 16 draws of 8x8.
  const int64_t block = Block::Bytes(16, 64, true);
  Limit({.buffer_bytes_max = 4 * block, .blocks_ahead = 16});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Submit(a_, 1000, 16).ok());
  int tiles = 0;
  while (!Next().empty()) ++tiles;
  EXPECT_EQ(tiles, 4) << "one each and the one that is left";
  EXPECT_EQ(Submit(a_, 1000, 16).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(Submit(a_, 1000, 16, "").ok()) << "the server's own";
  jobs_.clear();
  EXPECT_TRUE(Submit(a_, 1000, 16).ok()) << "all of it came back";
}

TEST_F(SchedulerTest, AFailedTileFailsItsCallsOnly) {
  ASSERT_TRUE(Submit(a_, 1000).ok());
  ASSERT_TRUE(Submit(b_, 1000).ok());
  Tile tile;
  ASSERT_TRUE(scheduler_->NextTile(&tile));
  ASSERT_EQ(tile.version, a_);
  scheduler_->FinishTile(tile, {TileError::kBroken, "the device is on fire"});
  EXPECT_EQ(jobs_[0]->Failure().error_code(), grpc::StatusCode::INTERNAL);
  std::string model;
  for (int i = 0; i < 10; ++i) {
    Next(&model);
    EXPECT_EQ(model, "b");
  }
  EXPECT_TRUE(jobs_[1]->Failure().ok());
}

TEST_F(SchedulerTest, ACancelledCallLeavesNothingBehind) {
  ASSERT_TRUE(Submit(a_, 1000, 1000).ok());
  Tile tile;
  ASSERT_TRUE(scheduler_->NextTile(&tile));
  jobs_[0]->Cancel();
  scheduler_->FinishTile(tile);
  EXPECT_EQ(Next(), Counts());
  EXPECT_EQ(jobs_[0]->Pop(), nullptr);
}

TEST_F(SchedulerTest, NothingIsTakenOnceStopped) {
  scheduler_->Stop();
  Tile tile;
  EXPECT_FALSE(scheduler_->NextTile(&tile));
  EXPECT_EQ(Submit(a_, 1).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(SchedulerTest, BackgroundDrawsYieldButDoNotStarve) {
  background_ = true;
  ASSERT_TRUE(Submit(a_, 1000).ok());
  background_ = false;
  ASSERT_TRUE(Submit(b_, 1000).ok());
  int background = 0, foreground = 0;
  const auto read = [&] {
    for (const auto& job : jobs_) {
      while (job->Pop() != nullptr) {
      }
    }
  };
  for (int i = 0; i < 36; ++i) {
    const Counts counts = Next();
    read();
    background += counts.count(0) > 0 ? 1 : 0;
    foreground += counts.count(1) > 0 ? 1 : 0;
  }
  EXPECT_EQ(background, 4);
  EXPECT_EQ(foreground, 32);
  // Alone it has every tile.
  jobs_[1]->Cancel();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Next(), Counts({{0, 16}}));
    read();
  }
}

TEST_F(SchedulerTest, GivenConfigurationsAndDrawsNeverShareATile) {
  given_ = std::make_shared<std::vector<float>>(8 * 64);
  ASSERT_TRUE(Submit(a_, 8).ok());
  ASSERT_TRUE(Submit(a_, 8).ok());
  given_ = nullptr;
  ASSERT_TRUE(Submit(a_, 8).ok());
  Tile tile;
  ASSERT_TRUE(scheduler_->NextTile(&tile));
  EXPECT_TRUE(tile.given);
  EXPECT_EQ(tile.draws, 16);
  ASSERT_TRUE(scheduler_->NextTile(&tile));
  EXPECT_FALSE(tile.given);
  EXPECT_EQ(tile.draws, 8);
}

// A chain's evaluations: as many of them as it makes, it stays one call.
TEST_F(SchedulerTest, AJobWithinACallTakesNoPlaceAndWaitsItsTurn) {
  Limit({.calls_max = 4, .calls_per_peer_max = 4});
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(Submit(a_, 1 << 20, /*block_draws=*/1 << 14).ok());
  }
  for (int i = 0; i < 100; ++i) Next();
  has_place_ = true;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Submit(b_, 1).ok());
  EXPECT_EQ(Next().count(3), 0) << "an arrival would be next";
  int tiles = 1;
  while (Next().count(3) == 0) ++tiles;
  // A turn is at most 16 tiles.
  EXPECT_LE(tiles, 3 * 16);
  has_place_ = false;
  EXPECT_TRUE(Submit(a_, 1).ok());
  EXPECT_EQ(Submit(a_, 1).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(SchedulerTest, AJobWithinACallIsChargedToItsPeer) {
  Limit({.draws_per_second_per_peer = 1});
  has_place_ = true;
  // The bucket holds ten seconds' worth.
  grpc::Status status;
  for (int i = 0; i < 20 && status.ok(); ++i) {
    status = Submit(a_, 4);
    if (status.ok()) status = jobs_.back()->Failure();
  }
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace latticed
