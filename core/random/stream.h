// RNG streams: which random numbers belong to which draw.
//
// A random number is a pure function of (stream, index, purpose, position): no
// state, no seed, no order of calls. The layout is frozen; changing it changes
// every draw ever named:
//
//   Philox4x32-10 key     = stream id bits 0-63 (low word first)
//   counter word 3        = stream id bits 64-95
//   counter words 1, 2    = sample index, low word first
//   counter word 0        = purpose (bits 24-31), block (bits 0-23)
//
// A block is four 32-bit words, so a draw has at most 4 * 2^24 deviates.
// Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace latticed {

// 96 bits. Bit 95 is set for named streams and clear for fresh ones, so that
// the two kinds never meet.
struct StreamId {
  uint64_t low = 0;
  uint32_t high = 0;

  friend bool operator==(const StreamId&, const StreamId&) = default;

  // 12 bytes, little-endian; the form on the wire.
  std::string Bytes() const;
  // 24 hex digits, of Bytes().
  std::string Hex() const;
  // Requires 12 bytes.
  static StreamId FromBytes(absl::string_view bytes);
};

// SHA-256 of "latticed stream\0" + name, truncated to 96 bits.
StreamId NamedStream(absl::string_view name);

// 95 random bits of the operating system: never repeats across restarts, forks
// and replicas but with probability 2^-95 a pair. Aborts if there are none.
StreamId FreshStream();

enum class Purpose : uint8_t {
  kBaseDraw = 0,
  kAccept = 1,
  kGate = 2,
  kAudit = 3,
  kChainUpdate = 4,
  kStart = 5,  // of a training's parameters
};

// Block `block` < 2^24 of the random words of (stream, index, purpose).
std::array<uint32_t, 4> RandomBlock(const StreamId& stream, uint64_t index,
                                    Purpose purpose, uint32_t block);

// The words of blocks first_block, first_block + 1, ... in order; a block
// beyond 2^24 - 1 aborts.
void RandomWords(const StreamId& stream, uint64_t index, Purpose purpose,
                 uint32_t first_block, absl::Span<uint32_t> out);

// Uniform on (0, 1] with 53 bits, from words 0 and 1 of block 0:
// (floor((w_0 + 2^32 w_1) / 2^11) + 1) / 2^53.
double Uniform(const StreamId& stream, uint64_t index, Purpose purpose);

// Standard normal deviates, four a block in site order: Box-Muller on the word
// pairs (0, 1) and (2, 3),
//   r = sqrt(-2 log u_0), u_0 = (w_0 + 1) / 2^32,  a = 2 pi w_1 / 2^32,
//   normals r cos a, r sin a,
// computed in double, to within 1e-15 relative, and rounded to float; the same
// bits on every CPU. At most 4 * 2^24 deviates; a longer `out` aborts.
void Normals(const StreamId& stream, uint64_t index, Purpose purpose,
             absl::Span<float> out);

}  // namespace latticed
