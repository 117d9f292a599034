#include "core/device.h"

#include <torch/version.h>

#ifdef LATTICED_TORCH_CUDA
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#endif

namespace latticed {

std::string TorchVersion() { return TORCH_VERSION; }

#ifdef LATTICED_TORCH_CUDA

std::string CudaVersion() {
  return std::to_string(CUDART_VERSION / 1000) + "." +
         std::to_string(CUDART_VERSION % 1000 / 10);
}

std::optional<DeviceMemory> MemoryOf(const std::string& device) {
  const c10::Device where(device);
  if (!where.is_cuda()) return std::nullopt;
  const auto index = where.has_index() ? where.index() : c10::DeviceIndex{0};
  try {
    const c10::cuda::CUDAGuard guard(index);
    size_t free = 0;
    size_t total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return std::nullopt;
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(index);
    // The first of each array is the sum over kinds of pools.
    return DeviceMemory{.allocated = stats.allocated_bytes[0].current,
                        .reserved = stats.reserved_bytes[0].current,
                        .free = static_cast<int64_t>(free),
                        .total = static_cast<int64_t>(total)};
  } catch (const c10::Error&) {  // no such device, or nothing allocated yet
    return std::nullopt;
  }
}

#else

std::string CudaVersion() { return ""; }

std::optional<DeviceMemory> MemoryOf(const std::string&) {
  return std::nullopt;
}

#endif

}  // namespace latticed
