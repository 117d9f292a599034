// Where plain samplers of the tests draw: on LATTICED_TEST_DEVICE, e.g. "cuda",
// or the CPU. Fused ones draw on the CPU always.
#pragma once

#include <cstdlib>
#include <string>

#include "core/factory.h"

namespace latticed {

inline std::string TestDevice() {
  const char* device = std::getenv("LATTICED_TEST_DEVICE");
  return device == nullptr ? "cpu" : device;
}

inline SamplerOptions TestOptions(Kernel kernel) {
  SamplerOptions options;
  options.kernel = kernel;
  if (kernel == Kernel::kPlain) options.device = TestDevice();
  return options;
}

// What a server on that device draws with.
inline Kernel TestKernel() {
  return TestDevice() == "cpu" ? Kernel::kFused : Kernel::kPlain;
}

}  // namespace latticed
