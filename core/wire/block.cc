#include "core/wire/block.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/wire/crc32c.h"

namespace latticed {
namespace {

static_assert(std::endian::native == std::endian::little,
              "payloads are little-endian: this port needs byte swaps");

template <typename T>
absl::string_view View(absl::Span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(T)};
}

template <typename T>
bool Copy(absl::string_view bytes, absl::Span<T> out) {
  if (bytes.size() != out.size() * sizeof(T)) return false;
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return true;
}

}  // namespace

int64_t CoerceBlockBytes(int64_t requested) {
  if (requested == 0) return kBlockBytesDefault;
  return std::clamp(requested, kBlockBytesMin, kBlockBytesMax);
}

int64_t BytesPerConfiguration(int64_t sites, const BlockContent& content) {
  return (content.phi ? 4 * sites : 0) + (content.log_q ? 8 : 0) +
         (content.action ? 8 : 0);
}

int64_t ConfigurationsPerBlock(int64_t sites, const BlockContent& content,
                               int64_t block_bytes) {
  const int64_t bytes =
      std::max<int64_t>(1, BytesPerConfiguration(sites, content));
  return std::max<int64_t>(1, block_bytes / bytes);
}

uint32_t BlockCrc32c(absl::string_view log_q, absl::string_view action,
                     absl::string_view phi) {
  return Crc32c(phi, Crc32c(action, Crc32c(log_q)));
}

absl::string_view BytesOf(absl::Span<const float> values) {
  return View(values);
}
absl::string_view BytesOf(absl::Span<const double> values) {
  return View(values);
}

bool FromBytes(absl::string_view bytes, absl::Span<float> out) {
  return Copy(bytes, out);
}
bool FromBytes(absl::string_view bytes, absl::Span<double> out) {
  return Copy(bytes, out);
}

}  // namespace latticed
