// Chain tokens: everything a replica needs to continue a chain, sealed with
// HMAC-SHA-256 under a key that replicas share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/random/stream.h"
#include "core/wire/block.h"
#include "server/config.h"

namespace latticed {

// A chain after `step` steps.
struct ChainState {
  std::string digest;  // 64 hex digits
  StreamId stream;
  uint32_t thinning = 1;
  BlockContent content;
  uint64_t step = 0;
  // The configuration the chain sits on; none before the first accepted one.
  bool started = false;
  uint64_t index = 0;
  double log_w = 0;
  uint64_t accepted = 0;
  uint64_t non_finite = 0;
  uint64_t rejection_run = 0;  // the one it is in
  uint64_t longest_rejection_run = 0;
};

// The chains of one call, all at the same step, with the same digest, thinning
// and content; at least one.
using ChainSet = std::vector<ChainState>;
inline constexpr size_t kChainsMax = 64;

// A single chain as below; several in 35 bytes and 107 each.
std::string SealTokens(const std::string& key, const ChainSet& chains);
bool OpenTokens(const std::string& key, absl::string_view token,
                ChainSet* chains);

// The stream of chain `chain` > 0 of a call whose first one has `first`.
StreamId StreamOfChain(const StreamId& first, uint32_t chain);

// 139 bytes: fixed fields, little-endian, then the seal.
std::string SealToken(const std::string& key, const ChainState& state);
// False unless the token is one of ours, unchanged.
bool OpenToken(const std::string& key, absl::string_view token,
               ChainState* state);

// The key file's contents, at least 16 bytes; without one a key that is created
// in the state directory, or a passing one if there is neither.
absl::StatusOr<std::string> LoadTokenKey(const Config& config);

}  // namespace latticed
