#include "core/wire/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <cstddef>

namespace latticed {

uint32_t Crc32c(absl::string_view bytes, uint32_t crc) {
  // ISA-L takes an int length, a non-const pointer it only reads, and leaves
  // the customary inversions to the caller.
  constexpr size_t kChunk = size_t{1} << 30;
  uint32_t state = ~crc;
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), kChunk);
    state = crc32_iscsi(
        reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data())),
        static_cast<int>(n), state);
    bytes.remove_prefix(n);
  }
  return ~state;
}

}  // namespace latticed
