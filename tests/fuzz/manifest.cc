// A version whose manifest is anything at all, with a digest that agrees.
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/checkpoint/repository.h"
#include "core/wire/digest.h"

namespace {

// Made once: the input is the manifest alone.
std::string MakeRepository() {
  std::string root =
      (std::filesystem::temp_directory_path() / "fuzz-XXXXXX").string();
  if (mkdtemp(root.data()) == nullptr) std::abort();
  std::filesystem::create_directories(root + "/m/1");
  static std::string made = root;
  std::atexit([] { std::filesystem::remove_all(made); });
  return root;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string root = MakeRepository();
  const std::string json(reinterpret_cast<const char*>(data), size);
  std::ofstream(root + "/m/1/manifest.json", std::ios::binary) << json;
  std::ofstream(root + "/m/1/manifest.sha256")
      << latticed::Sha256Hex(json) << "  manifest.json\n";
  // There are no weights: nothing may be accepted.
  if (latticed::ReadVersion(root, "m", 1).ok()) std::abort();
  return 0;
}
