// Fills tiles from the draws that all calls ask for.
//
// Deficit round robin over calls, charged in lattice sites, so that a call for
// 10^9 draws cannot starve one for 10^3, nor a large lattice a small one. A
// call that arrives is served next, unless three arrivals in a row already
// were. A tile that one call cannot fill is filled up with draws of other calls
// of the same version.
//
// Background draws (of the gate and of audits) run when nobody else wants a
// tile, and get one tile in nine while somebody does.
//
// Everything is bounded: calls in all and per peer, bytes drawn and not yet
// sent in all, blocks ahead of one client. Every admitted call keeps memory for
// one block reserved, so it always gets on; blocks ahead come from what is
// left. A client that does not read stops its own draws only.
//
// Thread-safe. Locks: a caller may hold its own lock; the scheduler calls
// nobody while it holds its own but `follow` and the executor's Post.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/random/stream.h"
#include "grpcpp/support/status.h"
#include "server/block.h"
#include "server/executor.h"
#include "server/metrics.h"
#include "server/mutex.h"
#include "server/quota.h"
#include "server/served_version.h"

namespace latticed {

struct SchedulerLimits {
  int calls_max = 1024;
  int calls_per_peer_max = 512;
  double draws_per_second_per_peer = 0;  // 0: no limit
  int64_t buffer_bytes_max = int64_t{512} << 20;
  int blocks_ahead = 2;
  // Sites a call draws before it is the next one's turn.
  int64_t quantum_sites = int64_t{1} << 17;
};

struct DrawRequest {
  VersionRef version;
  StreamId stream;
  uint64_t first_index = 0;  // first_index + count <= 2^64
  uint64_t count = 0;        // >= 1
  int64_t block_draws = 0;   // of every block but the last, >= 1
  bool phi = true;           // keep phi; log q and S always are
  // The principal. "": the server itself, exempt from limits.
  std::string peer;
  // Runs on a reply thread when a block is full or the draws failed, never
  // twice at a time.
  std::function<void()> on_block;
  // Set: blocks come from the version this returns while action and lattice
  // stay the same. Called under the scheduler's lock.
  std::function<VersionRef()> follow;
  // Set: log q and S of these configurations, [count, L_0, L_1], instead of
  // draws. Blocks have no phi, and first_index counts into it from 0.
  std::shared_ptr<const std::vector<float>> given;
  bool background = false;
  // For a call whose other job has a place among the calls: takes none of its
  // own, and waits its turn like a stream, not like an arrival.
  bool has_place = false;
};

class Scheduler;

// The draws of one call. Destroying it cancels what is left.
class DrawJob {
 public:
  ~DrawJob();
  // The next full block in index order, or null.
  std::unique_ptr<Block> Pop();
  // Every block has been popped.
  bool Done() const;
  // Not OK: draws failed, and no block follows.
  grpc::Status Failure() const;
  // Drops what has not been drawn; at most the tile in flight still runs.
  void Cancel();

 private:
  friend class Scheduler;
  struct State;
  DrawJob(std::shared_ptr<Scheduler> scheduler, std::shared_ptr<State> state);
  const std::shared_ptr<Scheduler> scheduler_;
  const std::shared_ptr<State> state_;
};

// Part of a tile: `count` draws of `block` from its draw `offset` on.
struct TilePiece {
  std::shared_ptr<void> job;
  std::shared_ptr<Block> block;
  StreamId stream;
  std::shared_ptr<const std::vector<float>> given;
  int64_t offset = 0;
  int64_t count = 0;
  bool of_client = false;  // not the server's own draws
};
struct Tile {
  VersionRef version;
  bool given = false;  // its pieces have configurations to evaluate
  std::vector<TilePiece> pieces;
  int64_t draws = 0;
};

// What went wrong with a tile.
struct TileError {
  enum Kind { kNone, kBroken, kOutOfMemory, kDeviceLost };
  Kind kind = kNone;
  std::string what;
};

class Scheduler : public std::enable_shared_from_this<Scheduler> {
 public:
  // Both outlive every job and block.
  Scheduler(SchedulerLimits limits, std::shared_ptr<Executor> executor,
            std::shared_ptr<Metrics> metrics);

  // RESOURCE_EXHAUSTED with RetryInfo beyond a limit: QUOTA for the peer's own,
  // QUEUE_FULL for the server's.
  grpc::Status Submit(DrawRequest request, std::unique_ptr<DrawJob>* job);

  // For the worker. Waits for work for at most a second: then the tile is
  // empty. False once stopped.
  bool NextTile(Tile* tile);
  // The tile is drawn, or with an error its calls fail.
  void FinishTile(const Tile& tile, const TileError& error = {},
                  double seconds = 0);
  void Stop();

 private:
  friend class DrawJob;
  using JobRef = std::shared_ptr<DrawJob::State>;

  JobRef PickLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  JobRef PickForegroundLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ClaimLocked(const JobRef& job, Tile* tile)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Opens the job's next block if it may have one, and queues the job.
  void OpenBlockLocked(const JobRef& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Charges the peer for a block, or ends the job with QUOTA.
  bool ChargeLocked(DrawJob::State& job, int64_t draws)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool FollowLocked(DrawJob::State& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DequeueLocked(const JobRef& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CloseLocked(const JobRef& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PostLocked(const JobRef& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CommitLocked(DrawJob::State& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(const JobRef& job, int64_t bytes);

  const SchedulerLimits limits_;
  const std::shared_ptr<Executor> executor_;
  const std::shared_ptr<Metrics> metrics_;

  mutable Mutex mutex_;
  CondVar work_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int> calls_of_peer_ ABSL_GUARDED_BY(mutex_);
  DrawQuota quota_ ABSL_GUARDED_BY(mutex_);
  int64_t committed_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Jobs with draws to claim: those that have not had a turn, and the rest.
  std::deque<JobRef> arrivals_ ABSL_GUARDED_BY(mutex_);
  std::deque<JobRef> ring_ ABSL_GUARDED_BY(mutex_);
  std::deque<JobRef> background_ ABSL_GUARDED_BY(mutex_);
  int tiles_since_background_ ABSL_GUARDED_BY(mutex_) = 0;
  int arrivals_in_a_row_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace latticed
