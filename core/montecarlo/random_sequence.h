// A reader of one stream's random numbers in order, for algorithms that take
// as many as they need.
#pragma once

#include <array>
#include <cstdint>

#include "absl/types/span.h"
#include "core/random/stream.h"

namespace latticed {

// Words (stream, index, kChainUpdate, block 0, 1, ...), then index + 1. Two
// sequences overlap if both reach the same index: at 2^26 words an index, give
// chains of one stream starts that are far apart, or a stream each.
// Not thread-safe: one owner.
class RandomSequence {
 public:
  explicit RandomSequence(StreamId stream, uint64_t first_index = 0)
      : stream_(stream), index_(first_index) {}

  uint32_t Word() {
    if (next_ == words_.size()) Refill();
    return words_[next_++];
  }
  // Uniform on (0, 1], 32 bits: a step of 2^-32 is far below any statistical
  // error of a chain, and halves the work.
  double Uniform() { return (Word() + 1.0) * 0x1p-32; }
  // Standard normal deviates by Box-Muller.
  void Normals(absl::Span<double> out);

 private:
  void Refill();

  StreamId stream_;
  uint64_t index_;
  uint32_t block_ = 0;
  std::array<uint32_t, 256> words_ = {};
  size_t next_ = 256;
};

}  // namespace latticed
