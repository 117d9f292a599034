#include "core/device.h"

#include <torch/version.h>

#include "absl/strings/str_cat.h"

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

absl::Status CheckDevice(const std::string& device) {
  if (device == "cpu") return absl::OkStatus();
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    return absl::UnavailableError(
        absl::StrCat("device '", device, "': CUDA finds no device (",
                     cudaGetErrorString(error),
                     "); see that nvidia-smi shows one, or use --device=cpu"));
  }
  int index = -1;
  try {
    index = c10::Device(device).index();
  } catch (const c10::Error&) {
    return absl::InvalidArgumentError(absl::StrCat(
        "device '", device, "' is none; allowed are cpu, cuda and cuda:n"));
  }
  if (index >= count) {
    return absl::InvalidArgumentError(
        absl::StrCat("device '", device, "': this machine has ", count,
                     " CUDA devices, counted from 0"));
  }
  return absl::OkStatus();
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

absl::Status CheckDevice(const std::string& device) {
  if (device == "cpu") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "device '", device,
      "': this build's LibTorch has no CUDA; use --device=cpu, or a build "
      "against a LibTorch with CUDA"));
}

std::optional<DeviceMemory> MemoryOf(const std::string&) {
  return std::nullopt;
}

#endif

}  // namespace latticed
