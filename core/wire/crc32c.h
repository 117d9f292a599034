// CRC-32C (Castagnoli, iSCSI polynomial): of "123456789" it is 0xE3069283.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace latticed {

// Continues `crc` (0 at the start) over `bytes`.
uint32_t Crc32c(absl::string_view bytes, uint32_t crc = 0);

}  // namespace latticed
