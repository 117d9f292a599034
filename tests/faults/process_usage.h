// What this process, or another one, holds.
#pragma once

#include <dirent.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>

namespace latticed {

// Of "VmRSS" or "VmHWM", in bytes.
inline int64_t MemoryOf(const std::string& field,
                        const std::string& process = "self") {
  std::ifstream status("/proc/" + process + "/status");
  std::string word;
  while (status >> word) {
    if (word != field + ":") continue;
    int64_t kibibytes = 0;
    status >> kibibytes;
    return kibibytes << 10;
  }
  return -1;
}

inline int OpenDescriptors() {
  int count = 0;
  DIR* directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

}  // namespace latticed
