// The payload of a block of configurations: what both ends of a call share.
//
// Arrays are C order, little-endian: log_q float64 [n], action float64 [n],
// phi float32 [n, L_0, L_1]. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace latticed {

inline constexpr int64_t kBlockBytesDefault = int64_t{1} << 20;
inline constexpr int64_t kBlockBytesMin = int64_t{64} << 10;
inline constexpr int64_t kBlockBytesMax = int64_t{2} << 20;

// 0 means the default; anything else is brought into [min, max].
int64_t CoerceBlockBytes(int64_t requested);

struct BlockContent {
  bool phi = true;
  bool log_q = true;
  bool action = true;
};

int64_t BytesPerConfiguration(int64_t sites, const BlockContent& content);

// As many as fit into `block_bytes`, at least one. Requires some content.
int64_t ConfigurationsPerBlock(int64_t sites, const BlockContent& content,
                               int64_t block_bytes);

// CRC-32C of the three payloads in this order; absent ones are empty.
uint32_t BlockCrc32c(absl::string_view log_q, absl::string_view action,
                     absl::string_view phi);

// The numbers' own memory, which is what goes on the wire.
absl::string_view BytesOf(absl::Span<const float> values);
absl::string_view BytesOf(absl::Span<const double> values);

// Back again: false, and nothing written, unless `bytes` is exactly as long as
// `out`. `bytes` need not be aligned.
bool FromBytes(absl::string_view bytes, absl::Span<float> out);
bool FromBytes(absl::string_view bytes, absl::Span<double> out);

}  // namespace latticed
