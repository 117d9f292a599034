// Weights files: whatever is accepted must survive a round trip.
#include <cstdint>
#include <cstdlib>

#include "core/checkpoint/weights.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto weights = latticed::ParseSafetensors(bytes);
  if (!weights.ok()) return 0;
  const std::string again = latticed::SerializeSafetensors(*weights);
  const auto reread = latticed::ParseSafetensors(again);
  if (!reread.ok() || reread->size() != weights->size() ||
      latticed::SerializeSafetensors(*reread) != again) {
    std::abort();
  }
  return 0;
}
