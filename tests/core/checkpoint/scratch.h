// A temporary directory, a tiny model to publish in it, and raw file access to
// damage it with.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "core/checkpoint/repository.h"
#include "gtest/gtest.h"

namespace latticed {

class Scratch {
 public:
  Scratch() {
    std::string path = ::testing::TempDir() + "/latticed-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) std::abort();
    root_ = path;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  const std::string& root() const { return root_; }
  std::string operator/(const std::string& name) const {
    return root_ + "/" + name;
  }

 private:
  std::string root_;
};

inline std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline Weights TinyWeights() {
  return {{"alpha", {{2}, {1.5F, -2.25F}}},
          {"khat", {{2, 1, 3}, {1, 2, 3, 4, 5, 6}}},
          {"scale", {{}, {0.125F}}}};
}

inline v1::Manifest TinyManifest() {
  v1::Manifest manifest;
  v1::ModelSpec& spec = *manifest.mutable_spec();
  spec.mutable_action()->mutable_free_field()->set_mass_squared(0.3);
  spec.mutable_lattice()->add_extent(2);
  spec.mutable_lattice()->add_extent(4);
  spec.set_tile(16);
  manifest.mutable_quality()->set_ess(0.9913725490196078);
  manifest.mutable_quality()->set_step_doubling_rms(1.25e-7);
  manifest.mutable_quality()->set_draws(65536);
  return manifest;
}

}  // namespace latticed
