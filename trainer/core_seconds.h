// Processor time of this process, of all its threads: what costs are compared
// in, since wall time depends on what else the machine does.
#pragma once

#include <ctime>

namespace latticed {

inline double CoreSeconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

}  // namespace latticed
