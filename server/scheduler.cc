#include "server/scheduler.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"

namespace latticed {

// Guarded by the scheduler's lock, but for what Submit sets once.
struct DrawJob::State {
  DrawRequest request;
  std::string identity;  // action and lattice, to follow a model by

  VersionRef version;  // of the next block
  uint64_t next_index = 0;
  uint64_t left = 0;  // draws that belong to no block yet
  std::shared_ptr<Block> open;
  std::deque<std::shared_ptr<Block>> full;
  int64_t blocks = 0;  // alive anywhere
  int64_t bytes = 0;   // of them
  int64_t reserved = 0;
  int64_t committed = 0;
  uint64_t drawn = 0;
  uint64_t popped = 0;
  int64_t quantum = 0;
  int64_t deficit = 0;  // sites it may still draw in this turn
  bool counts = false;  // as one of its peer's calls
  bool queued = false;
  bool posted = false;
  bool closed = false;
  // Why there are no further blocks. Those opened before still come, unless
  // drawing one of them is what failed.
  grpc::Status failure;
  bool broken = false;
};

namespace {

constexpr int kTilesPerBackgroundTile = 8;

grpc::Status DrawFailed(const ServedVersion& version, const TileError& error) {
  const std::string what =
      absl::StrCat("drawing from ", version.Name(), " failed: ", error.what);
  if (error.kind == TileError::kOutOfMemory) {
    return Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "OUT_OF_MEMORY",
                 absl::StrCat(what, "; try again in a moment"))
        .With("model", version.model)
        .RetryAfter(std::chrono::seconds(1));
  }
  if (error.kind == TileError::kDeviceLost) {
    return Error(grpc::StatusCode::UNAVAILABLE, "DEVICE_LOST",
                 absl::StrCat(what,
                              "; this server stops, try another one, or "
                              "this one when it is back"))
        .With("model", version.model)
        .RetryAfter(std::chrono::seconds(1));
  }
  return Error(grpc::StatusCode::INTERNAL, "DRAW_FAILED",
               absl::StrCat(what, "; another version or server may do better"))
      .With("model", version.model);
}

std::string Identity(const ServedVersion& version) {
  return version.manifest.spec().action().SerializeAsString() + "/" +
         version.lattice.Name();
}

}  // namespace

DrawJob::DrawJob(std::shared_ptr<Scheduler> scheduler,
                 std::shared_ptr<State> state)
    : scheduler_(std::move(scheduler)), state_(std::move(state)) {}

DrawJob::~DrawJob() { Cancel(); }

std::unique_ptr<Block> DrawJob::Pop() {
  MutexLock lock(scheduler_->mutex_);
  if (state_->full.empty()) return nullptr;
  auto block = std::make_unique<Block>(std::move(*state_->full.front()));
  state_->full.pop_front();
  state_->popped += static_cast<uint64_t>(block->count);
  return block;
}

bool DrawJob::Done() const {
  MutexLock lock(scheduler_->mutex_);
  return state_->popped == state_->request.count;
}

grpc::Status DrawJob::Failure() const {
  MutexLock lock(scheduler_->mutex_);
  const uint64_t opened = state_->next_index - state_->request.first_index;
  const bool over =
      state_->full.empty() && (state_->broken || state_->popped == opened);
  return over ? state_->failure : grpc::Status::OK;
}

void DrawJob::Cancel() {
  // Freeing a block locks the scheduler: they are dropped after the lock.
  std::deque<std::shared_ptr<Block>> full;
  std::shared_ptr<Block> open;
  MutexLock lock(scheduler_->mutex_);
  if (state_->closed) return;
  scheduler_->CloseLocked(state_);
  full.swap(state_->full);
  open.swap(state_->open);
  const std::string& model = state_->version->model;
  if (open != nullptr) {
    scheduler_->metrics_->Queued(model, open->claimed - open->count);
  }
  scheduler_->metrics_->Discarded(
      model, static_cast<int64_t>(state_->drawn - state_->popped));
}

Scheduler::Scheduler(SchedulerLimits limits, std::shared_ptr<Executor> executor,
                     std::shared_ptr<Metrics> metrics)
    : limits_(limits),
      executor_(std::move(executor)),
      metrics_(std::move(metrics)),
      quota_(limits.draws_per_second_per_peer) {}

grpc::Status Scheduler::Submit(DrawRequest request,
                               std::unique_ptr<DrawJob>* job) {
  auto state = std::make_shared<DrawJob::State>();
  state->version = request.version;
  state->identity = Identity(*request.version);
  state->next_index = request.first_index;
  state->left = request.count;
  const int64_t first_block = static_cast<int64_t>(std::min<uint64_t>(
      request.count, static_cast<uint64_t>(request.block_draws)));
  state->reserved =
      Block::Bytes(first_block, request.version->lattice.Sites(), request.phi);
  // Small tiles are slower per site: a turn is never more than 16 of them.
  state->quantum =
      std::min(limits_.quantum_sites,
               16 * request.version->tile * request.version->lattice.Sites());
  // An arrival's first turn is one tile: many that arrive together do not make
  // the last of them wait for whole turns.
  state->deficit = request.version->tile * request.version->lattice.Sites();
  state->request = std::move(request);
  const std::string& peer = state->request.peer;

  MutexLock lock(mutex_);
  std::string full;
  // The server's own draws are not counted, nor what has its place already.
  state->counts = !peer.empty() && !state->request.has_place;
  const auto calls = calls_of_peer_.find(peer);
  if (state->counts && calls_ < limits_.calls_max &&
      calls != calls_of_peer_.end() &&
      calls->second >= limits_.calls_per_peer_max) {
    metrics_->Rejected("quota");
    return Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUOTA",
                 absl::StrCat(peer, " has ", calls->second,
                              " calls drawing, the most one may have "
                              "(--calls_per_peer_max); wait for one to end"))
        .With("calls", static_cast<uint64_t>(calls->second))
        .RetryAfter(std::chrono::seconds(1));
  }
  if (!state->counts) {
    // Neither has limits of its own.
  } else if (calls_ >= limits_.calls_max) {
    full = absl::StrCat(calls_,
                        " calls are drawing, the most this server "
                        "takes (--calls_max)");
  } else if (committed_bytes_ + state->reserved > limits_.buffer_bytes_max) {
    full = absl::StrCat(committed_bytes_, " of ", limits_.buffer_bytes_max,
                        " bytes for drawn configurations are taken "
                        "(--buffer_bytes_max)");
  }
  if (!full.empty()) {
    metrics_->Rejected("queue_full");
    return Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL",
                 absl::StrCat("queue full: ", full,
                              "; wait a second and try again, or ask for "
                              "several counts in one call"))
        .With("calls", static_cast<uint64_t>(calls_))
        .RetryAfter(std::chrono::seconds(1));
  }
  if (stopped_) {
    return Error(grpc::StatusCode::UNAVAILABLE, "DRAINING",
                 "the server is stopping; try another one");
  }
  if (!peer.empty()) {
    grpc::Status quota = quota_.Take(peer, 0, std::chrono::steady_clock::now());
    if (!quota.ok()) {
      metrics_->Rejected("quota");
      return quota;
    }
  }
  if (state->counts) {
    ++calls_;
    ++calls_of_peer_[peer];
  }
  CommitLocked(*state);
  OpenBlockLocked(state);
  job->reset(new DrawJob(shared_from_this(), std::move(state)));
  return grpc::Status::OK;
}

// Keeps the reservation of an open job, and what its blocks really take.
void Scheduler::CommitLocked(DrawJob::State& job) {
  const int64_t now =
      job.closed ? job.bytes : std::max(job.reserved, job.bytes);
  committed_bytes_ += now - job.committed;
  job.committed = now;
}

bool Scheduler::ChargeLocked(DrawJob::State& job, int64_t draws) {
  if (job.request.peer.empty()) return true;
  job.failure =
      quota_.Take(job.request.peer, draws, std::chrono::steady_clock::now());
  if (!job.failure.ok()) metrics_->Rejected("quota");
  return job.failure.ok();
}

bool Scheduler::FollowLocked(DrawJob::State& job) {
  if (!job.request.follow) return true;
  const VersionRef live = job.request.follow();
  if (live == nullptr || live == job.version) return true;
  if (Identity(*live) != job.identity) {
    job.failure =
        Error(grpc::StatusCode::FAILED_PRECONDITION, "ACTION_MISMATCH",
              absl::StrCat(live->Name(),
                           " went live with another action or "
                           "lattice than the stream began with; start a new "
                           "call for it, or pin the old version"))
            .With("model", live->model)
            .With("digest", live->digest)
            .With("next_index", job.next_index);
    return false;
  }
  job.version = live;
  return true;
}

void Scheduler::OpenBlockLocked(const JobRef& job) {
  if (job->closed || job->open != nullptr || job->left == 0 ||
      !job->failure.ok() || job->blocks > limits_.blocks_ahead) {
    return;
  }
  if (!FollowLocked(*job)) {
    PostLocked(job);
    return;
  }
  auto block = std::make_shared<Block>();
  block->version = job->version;
  block->opened = std::chrono::steady_clock::now();
  block->first_index = job->next_index;
  block->count = static_cast<int64_t>(std::min<uint64_t>(
      job->left, static_cast<uint64_t>(job->request.block_draws)));
  block->has_phi = job->request.phi;
  const int64_t bytes =
      Block::Bytes(block->count, job->version->lattice.Sites(), block->has_phi);
  // A job without blocks has its reservation; more only if there is room.
  const int64_t extra =
      std::max(job->reserved, job->bytes + bytes) - job->committed;
  if (job->blocks > 0 && committed_bytes_ + extra > limits_.buffer_bytes_max) {
    return;
  }
  if (!ChargeLocked(*job, block->count)) {
    PostLocked(job);
    return;
  }
  block->memory = std::make_shared<BlockMemory>(
      bytes, [self = weak_from_this(), job, bytes] {
        if (const auto scheduler = self.lock()) scheduler->Release(job, bytes);
      });
  job->blocks += 1;
  job->bytes += bytes;
  CommitLocked(*job);
  job->next_index += static_cast<uint64_t>(block->count);
  job->left -= static_cast<uint64_t>(block->count);
  job->open = std::move(block);
  metrics_->Queued(job->version->model, job->open->count);
  if (!job->queued) {
    job->queued = true;
    const bool arrival = !job->request.has_place &&
                         job->open->first_index == job->request.first_index;
    (job->request.background ? background_
     : arrival               ? arrivals_
                             : ring_)
        .push_back(job);
    work_.NotifyOne();
  }
}

Scheduler::JobRef Scheduler::PickLocked() {
  const bool due = tiles_since_background_ >= kTilesPerBackgroundTile;
  JobRef job = due && !background_.empty() ? nullptr : PickForegroundLocked();
  if (job != nullptr) {
    ++tiles_since_background_;
  } else if (!background_.empty()) {
    // In turn: each has one tile at a time.
    job = std::move(background_.front());
    background_.pop_front();
    background_.push_back(job);
    tiles_since_background_ = 0;
  }
  return job;
}

Scheduler::JobRef Scheduler::PickForegroundLocked() {
  while (!arrivals_.empty() || !ring_.empty()) {
    const bool arrival =
        !arrivals_.empty() && (ring_.empty() || arrivals_in_a_row_ < 3);
    std::deque<JobRef>& queue = arrival ? arrivals_ : ring_;
    JobRef job = queue.front();
    if (job->deficit > 0) {
      arrivals_in_a_row_ = arrival ? arrivals_in_a_row_ + 1 : 0;
      return job;
    }
    job->deficit += job->quantum;
    queue.pop_front();
    ring_.push_back(std::move(job));
  }
  return nullptr;
}

void Scheduler::DequeueLocked(const JobRef& job) {
  if (!job->queued) return;
  job->queued = false;
  for (auto* queue : {&arrivals_, &ring_, &background_}) {
    const auto it = std::find(queue->begin(), queue->end(), job);
    if (it != queue->end()) {
      queue->erase(it);
      return;
    }
  }
}

void Scheduler::ClaimLocked(const JobRef& job, Tile* tile) {
  const int64_t room = tile->version->tile - tile->draws;
  const int64_t count = std::min(room, job->open->count - job->open->claimed);
  tile->pieces.push_back({job, job->open, job->request.stream,
                          job->request.given, job->open->claimed, count,
                          !job->request.peer.empty()});
  tile->draws += count;
  if (job->open->claimed == 0) {
    metrics_->QueueWait(
        tile->version->model,
        std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                      job->open->opened)
            .count());
  }
  job->open->claimed += count;
  job->deficit -= count * tile->version->lattice.Sites();
  metrics_->Queued(tile->version->model, -count);
  if (job->open->claimed == job->open->count) {
    job->open = nullptr;
    OpenBlockLocked(job);
    if (job->open == nullptr) DequeueLocked(job);
  }
}

bool Scheduler::NextTile(Tile* tile) {
  *tile = Tile();
  MutexLock lock(mutex_);
  if (stopped_) return false;
  JobRef job = PickLocked();
  if (job == nullptr) {
    work_.WaitFor(mutex_, std::chrono::seconds(1));
    if (stopped_) return false;
    job = PickLocked();
    if (job == nullptr) return true;
  }
  tile->version = job->open->version;
  tile->given = job->request.given != nullptr;
  ClaimLocked(job, tile);
  // The same call first, from its next block; then others of this version.
  std::vector<JobRef> others = {job};
  if (tile->draws < tile->version->tile) {
    others.insert(others.end(), arrivals_.begin(), arrivals_.end());
    others.insert(others.end(), ring_.begin(), ring_.end());
  }
  for (const JobRef& other : others) {
    while (tile->draws < tile->version->tile && other->open != nullptr &&
           other->open->version == tile->version &&
           (other->request.given != nullptr) == tile->given) {
      ClaimLocked(other, tile);
    }
  }
  return true;
}

void Scheduler::FinishTile(const Tile& tile, const TileError& error,
                           double seconds) {
  // Freeing a block locks the scheduler: they are dropped after the lock.
  std::vector<std::shared_ptr<Block>> dropped;
  MutexLock lock(mutex_);
  for (const TilePiece& piece : tile.pieces) {
    const auto job = std::static_pointer_cast<DrawJob::State>(piece.job);
    if (error.kind != TileError::kNone) {
      if (job->closed) continue;
      if (!job->broken) {
        job->broken = true;
        job->failure = DrawFailed(*tile.version, error);
      }
      if (job->open != nullptr) {
        metrics_->Queued(job->open->version->model,
                         job->open->claimed - job->open->count);
        dropped.push_back(std::move(job->open));
        job->open = nullptr;
      }
      DequeueLocked(job);
      PostLocked(job);
    } else if (job->closed) {
      metrics_->Discarded(tile.version->model, piece.count);
    } else {
      job->drawn += static_cast<uint64_t>(piece.count);
      piece.block->drawn += piece.count;
      piece.block->seconds += seconds * static_cast<double>(piece.count) /
                              static_cast<double>(tile.draws);
      if (piece.block->drawn == piece.block->count && !job->broken) {
        job->full.push_back(piece.block);
        PostLocked(job);
      }
    }
  }
}

void Scheduler::PostLocked(const JobRef& job) {
  if (job->posted || job->closed || !job->request.on_block) return;
  job->posted = true;
  executor_->Post([self = shared_from_this(), job] {
    std::function<void()> on_block;
    {
      MutexLock lock(self->mutex_);
      job->posted = false;
      on_block = job->request.on_block;
    }
    if (on_block) on_block();
  });
}

void Scheduler::CloseLocked(const JobRef& job) {
  if (job->closed) return;
  job->closed = true;
  DequeueLocked(job);
  job->left = 0;
  job->request.on_block = nullptr;
  job->request.follow = nullptr;
  CommitLocked(*job);
  if (!job->counts) return;
  --calls_;
  const auto it = calls_of_peer_.find(job->request.peer);
  if (--it->second == 0) calls_of_peer_.erase(it);
}

void Scheduler::Release(const JobRef& job, int64_t bytes) {
  MutexLock lock(mutex_);
  job->blocks -= 1;
  job->bytes -= bytes;
  CommitLocked(*job);
  OpenBlockLocked(job);
}

void Scheduler::Stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
  work_.NotifyAll();
}

}  // namespace latticed
