// Decoded blocks of draws and of chains, checked before anyone sees them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/wire/block.h"
#include "latticed/v1/chain.pb.h"
#include "latticed/v1/sampler.pb.h"

namespace latticed {

// Consecutive draws first_index .. first_index + count - 1 of a stream, less
// those whose values were not finite. Arrays are empty where the request left
// their content out.
struct DrawBlock {
  uint64_t first_index = 0;
  uint64_t count = 0;
  std::vector<uint32_t> non_finite;  // offsets that are left out, ascending
  std::vector<float> phi;            // [count - non_finite, L_0, L_1]
  std::vector<double> log_q;         // [count - non_finite]
  std::vector<double> action;        // [count - non_finite]

  uint64_t size() const { return count - non_finite.size(); }
};

// Steps first_step .. first_step + steps - 1 of a chain. Kept configuration i,
// made at step kept_step[i], is row[i] of the arrays [rows]: repetitions are
// stored once.
struct StepBlock {
  uint32_t chain = 0;  // of several that run together
  uint64_t first_step = 0;
  uint64_t steps = 0;
  uint64_t accepted = 0;
  uint64_t non_finite = 0;
  std::vector<uint8_t> accept;  // [steps], 1: the chain moved
  std::vector<uint64_t> kept_step;
  std::vector<uint32_t> row;
  std::vector<uint64_t> index;  // [rows], the draw a row is
  // [rows], of the configuration since that draw; empty without updates.
  std::vector<uint64_t> updates;
  std::vector<float> phi;      // [rows, L_0, L_1]
  std::vector<double> log_q;   // [rows]
  std::vector<double> action;  // [rows]
  // Continues all chains after these steps; empty but for the last chain.
  std::string token;
};

// What a block must contain.
struct BlockShape {
  uint64_t sites = 0;
  BlockContent content;
};
// Absent content means all of it.
BlockShape MakeShape(const v1::Lattice& lattice,
                     const google::protobuf::RepeatedField<int>& content);

// DATA_LOSS: the payload does not match its CRC32C. INTERNAL: sizes or counts
// contradict each other.
absl::Status Decode(const v1::SampleBlock& message, const BlockShape& shape,
                    DrawBlock* block);
absl::Status Decode(const v1::ChainBlock& message, const BlockShape& shape,
                    uint32_t thinning, StepBlock* block);

}  // namespace latticed
