// Chain tokens: everything a replica needs to continue a chain, sealed with
// HMAC-SHA-256 under a key that replicas share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/montecarlo/configuration_update.h"
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
  ConfigurationUpdate update;
  uint32_t update_interval = 0;  // in steps; 0: no updates
  uint64_t step = 0;
  // The configuration the chain sits on; none before the first accepted one.
  bool started = false;
  uint64_t index = 0;
  double log_w = 0;
  uint64_t updates = 0;    // since draw `index`
  std::vector<float> phi;  // [sites] if updates > 0: what no draw gives back
  uint64_t accepted = 0;
  uint64_t non_finite = 0;
  uint64_t rejection_run = 0;  // the one it is in
  uint64_t longest_rejection_run = 0;
};

// The chains of one call, all at the same step, with the same digest, thinning,
// content and update; 1 to kChainsMax.
using ChainSet = std::vector<ChainState>;
inline constexpr size_t kChainsMax = 64;
// Of the configurations in a token.
inline constexpr size_t kTokenPhiBytesMax = size_t{1} << 20;
inline constexpr size_t kTokenBytesMax = kTokenPhiBytesMax + (size_t{8} << 10);

// Fixed fields, little-endian, then the seal: 79 bytes and 61 a chain, with an
// update 104 and 69, and the configuration where it is no draw.
std::string SealToken(const std::string& key, const ChainSet& chains);
// False unless the token is one of ours, unchanged.
bool OpenToken(const std::string& key, absl::string_view token,
               ChainSet* chains);

// The stream of chain `chain` > 0 of a call whose first one has `first`.
StreamId StreamOfChain(const StreamId& first, uint32_t chain);

// The key file's contents, at least 16 bytes; without one a key that is created
// in the state directory, or a passing one if there is neither.
absl::StatusOr<std::string> LoadTokenKey(const Config& config);

}  // namespace latticed
