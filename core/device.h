// What LibTorch is and what its device has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace latticed {

std::string TorchVersion();  // "1.13.1"
std::string CudaVersion();   // "13.0"; empty for a LibTorch without

// INVALID_ARGUMENT if this build or machine has no such device, UNAVAILABLE if
// a GPU should be there and does not answer. `device` as in SamplerOptions.
absl::Status CheckDevice(const std::string& device);

struct DeviceMemory {
  // Bytes. Held by tensors, and by LibTorch for tensors to come; of the device.
  int64_t allocated = 0;
  int64_t reserved = 0;
  int64_t free = 0;
  int64_t total = 0;
};

// None for the CPU, and while nothing has been allocated. `device` as in
// SamplerOptions. Thread-safe.
std::optional<DeviceMemory> MemoryOf(const std::string& device);

}  // namespace latticed
