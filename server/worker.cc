#include "server/worker.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/log.h"

namespace latticed {

Worker::Worker(std::shared_ptr<Scheduler> scheduler,
               std::shared_ptr<Graveyard> graveyard,
               std::shared_ptr<Metrics> metrics,
               std::function<void()> on_device_lost,
               std::shared_ptr<RecentDraws> recent)
    : scheduler_(std::move(scheduler)),
      graveyard_(std::move(graveyard)),
      metrics_(std::move(metrics)),
      on_device_lost_(std::move(on_device_lost)),
      recent_(std::move(recent)),
      thread_([this] { Run(); }) {}

Worker::~Worker() { thread_.join(); }

void Worker::Run() {
  Tile tile;
  while (scheduler_->NextTile(&tile)) {
    if (tile.draws > 0) {
      const auto start = std::chrono::steady_clock::now();
      TileError error;
      try {
        Draw(tile);
      } catch (const std::bad_alloc&) {
        // What runs next may need less, or find memory that others gave back.
        error = {TileError::kOutOfMemory, "the device has no memory left"};
        metrics_->DeviceOutOfMemory();
      } catch (const DeviceLost& e) {
        error = {TileError::kDeviceLost, e.what()};
        metrics_->DeviceError();
        Log(LogLevel::kError, absl::StrCat("the device is lost: ", e.what()));
        if (on_device_lost_) std::exchange(on_device_lost_, nullptr)();
      } catch (const std::exception& e) {
        // A broken invariant of ours, which LibTorch reports by throwing: the
        // calls concerned end with INTERNAL, the others go on.
        error = {TileError::kBroken, e.what()};
        Log(LogLevel::kError,
            absl::StrCat("drawing from ", tile.version->Name(), ": ",
                         e.what()));
      }
      const std::chrono::duration<double> seconds =
          std::chrono::steady_clock::now() - start;
      metrics_->DeviceBusy(seconds.count());
      if (error.kind == TileError::kNone) {
        metrics_->TileDrawn(tile.version->model, tile.draws, tile.version->tile,
                            seconds.count());
      }
      scheduler_->FinishTile(tile, error, seconds.count());
      tile = Tile();
    }
    graveyard_->Empty();
  }
  tile = Tile();
  graveyard_->Empty();
}

void Worker::Draw(const Tile& tile) {
  const size_t sites = static_cast<size_t>(tile.version->lattice.Sites());
  if (tile.given) return Evaluate(tile, sites);
  ids_.clear();
  for (const TilePiece& piece : tile.pieces) {
    const uint64_t first =
        piece.block->first_index + static_cast<uint64_t>(piece.offset);
    for (int64_t i = 0; i < piece.count; ++i) {
      ids_.push_back({piece.stream, first + static_cast<uint64_t>(i)});
    }
  }
  const size_t draws = ids_.size();
  const TilePiece& first = tile.pieces.front();
  const size_t offset = static_cast<size_t>(first.offset);
  // The common case is a tile of one block: it is drawn in place.
  const bool in_place = tile.pieces.size() == 1;
  const bool phi_in_place = in_place && first.block->has_phi;
  DrawSpans out;
  if (phi_in_place) {
    out.phi = first.block->phi().subspan(offset * sites, draws * sites);
  } else {
    if (phi_.size() < draws * sites) phi_.resize(draws * sites);
    out.phi = absl::MakeSpan(phi_.data(), draws * sites);
  }
  if (in_place) {
    out.log_q = first.block->log_q().subspan(offset, draws);
    out.action = first.block->action().subspan(offset, draws);
  } else {
    if (log_q_.size() < draws) {
      log_q_.resize(draws);
      action_.resize(draws);
    }
    out.log_q = absl::MakeSpan(log_q_.data(), draws);
    out.action = absl::MakeSpan(action_.data(), draws);
  }
  tile.version->sampler->Draw(ids_, out);
  metrics_->LogWeights(tile.version->model,
                       tile.version->manifest.log_weight_reference(), out.log_q,
                       out.action);
  if (recent_ != nullptr) recent_->Take(tile, out);
  if (!in_place) Scatter(tile, sites);
}

void Worker::Evaluate(const Tile& tile, size_t sites) {
  const size_t draws = static_cast<size_t>(tile.draws);
  if (phi_.size() < draws * sites) phi_.resize(draws * sites);
  if (log_q_.size() < draws) {
    log_q_.resize(draws);
    action_.resize(draws);
  }
  size_t done = 0;
  for (const TilePiece& piece : tile.pieces) {
    const size_t first = static_cast<size_t>(piece.block->first_index) +
                         static_cast<size_t>(piece.offset);
    const size_t count = static_cast<size_t>(piece.count);
    std::copy_n(&(*piece.given)[first * sites], count * sites,
                &phi_[done * sites]);
    done += count;
  }
  tile.version->sampler->Evaluate(
      absl::MakeConstSpan(phi_.data(), draws * sites),
      absl::MakeSpan(log_q_.data(), draws),
      absl::MakeSpan(action_.data(), draws));
  Scatter(tile, sites);
}

// From the scratch arrays to the blocks.
void Worker::Scatter(const Tile& tile, size_t sites) {
  size_t done = 0;
  for (const TilePiece& piece : tile.pieces) {
    const size_t to = static_cast<size_t>(piece.offset);
    const size_t count = static_cast<size_t>(piece.count);
    std::copy_n(&log_q_[done], count, &piece.block->log_q()[to]);
    std::copy_n(&action_[done], count, &piece.block->action()[to]);
    if (piece.block->has_phi) {
      std::copy_n(&phi_[done * sites], count * sites,
                  &piece.block->phi()[to * sites]);
    }
    done += count;
  }
}

}  // namespace latticed
