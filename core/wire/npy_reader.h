// Reads rows of the arrays of an .npy file or of a stored (uncompressed) .npz,
// without loading them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace latticed {

// Const calls may overlap.
class NpyReader {
 public:
  struct Array {
    std::string descr;
    std::vector<int64_t> shape;
    int64_t offset = 0;  // of the data in the file
    int64_t row_bytes = 0;

    int64_t rows() const { return shape[0]; }
  };

  // NOT_FOUND or PERMISSION_DENIED if the file cannot be opened,
  // INVALID_ARGUMENT for one that is neither, is damaged or compressed, or has
  // more than 64 arrays; arrays without an extent are left out. The one array
  // of an .npy is called "phi".
  static absl::StatusOr<std::unique_ptr<NpyReader>> Open(
      const std::string& path);
  ~NpyReader();
  NpyReader(const NpyReader&) = delete;
  NpyReader& operator=(const NpyReader&) = delete;

  const std::map<std::string, Array>& arrays() const { return arrays_; }
  // Null if there is none of the name.
  const Array* Find(absl::string_view name) const;
  // Requires 0 <= first, first + count <= rows.
  absl::StatusOr<std::string> Rows(const Array& array, int64_t first,
                                   int64_t count) const;

 private:
  NpyReader(std::string path, int descriptor, int64_t size)
      : path_(std::move(path)), descriptor_(descriptor), size_(size) {}
  absl::StatusOr<std::string> Read(int64_t offset, int64_t bytes) const;
  absl::Status AddArray(const std::string& name, int64_t offset, int64_t bytes);
  absl::Status ReadDirectory();

  const std::string path_;
  const int descriptor_;
  const int64_t size_;
  std::map<std::string, Array> arrays_;
};

}  // namespace latticed
