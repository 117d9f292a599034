// Consecutive draws of one stream: what the worker fills and a reply sends.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <utility>

#include "absl/types/span.h"
#include "server/served_version.h"

namespace latticed {

// One allocation, 64-byte aligned. `on_free` runs when the last owner lets go,
// which for a block on its way to a client is gRPC's transport.
class BlockMemory {
 public:
  BlockMemory(int64_t bytes, std::function<void()> on_free)
      : data_(static_cast<char*>(
            ::operator new(static_cast<size_t>(bytes), kAlignment))),
        on_free_(std::move(on_free)) {}
  ~BlockMemory() {
    ::operator delete(data_, kAlignment);
    if (on_free_) on_free_();
  }
  BlockMemory(const BlockMemory&) = delete;
  BlockMemory& operator=(const BlockMemory&) = delete;

  char* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  char* data_;
  std::function<void()> on_free_;
};

// Laid out as [log_q][action][phi], phi absent if nobody asked for it.
// Written by the worker until full, then by its one consumer.
struct Block {
  VersionRef version;
  uint64_t first_index = 0;
  int64_t count = 0;
  bool has_phi = true;
  std::shared_ptr<BlockMemory> memory;

  // Scheduler's books, under its lock.
  std::chrono::steady_clock::time_point opened;
  int64_t claimed = 0;  // given to a tile
  int64_t drawn = 0;
  double seconds = 0;  // of the device, spent on its draws

  static int64_t Bytes(int64_t count, int64_t sites, bool has_phi) {
    return count * (16 + (has_phi ? 4 * sites : 0));
  }
  absl::Span<double> log_q() const {
    return {reinterpret_cast<double*>(memory->data()),
            static_cast<size_t>(count)};
  }
  absl::Span<double> action() const {
    return {reinterpret_cast<double*>(memory->data()) + count,
            static_cast<size_t>(count)};
  }
  absl::Span<float> phi() const {
    return {
        reinterpret_cast<float*>(memory->data() + 16 * count),
        has_phi ? static_cast<size_t>(count * version->lattice.Sites()) : 0};
  }
};

}  // namespace latticed
