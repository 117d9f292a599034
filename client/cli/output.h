// Where drawn arrays go: F.npy or F.npz, complete or not at all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/wire/npy_writer.h"

namespace latticed {

// One array of the file, its rows arriving block by block.
struct Column {
  std::string name;
  std::string descr;               // as in npy.h
  std::vector<int64_t> row_shape;  // without the leading extent
};

struct WrittenArray {
  Column column;
  int64_t rows = 0;
  uint32_t crc32c = 0;  // of the raw array
};

// Arrays are collected in a hidden folder beside the file, so that everything
// stays on one file system and nothing half-written carries the file's name.
// Destroyed before a successful Commit it leaves nothing behind.
// Not thread-safe.
class ArrayOutput {
 public:
  // Finds out before anything is drawn whether `path` can be written:
  // INVALID_ARGUMENT unless it ends in .npy or .npz, ALREADY_EXISTS for a file
  // that `force` does not replace, or the reason why its folder refuses files.
  static absl::StatusOr<std::unique_ptr<ArrayOutput>> Prepare(std::string path,
                                                              bool force);
  ~ArrayOutput();
  ArrayOutput(const ArrayOutput&) = delete;
  ArrayOutput& operator=(const ArrayOutput&) = delete;

  // Once, before Append. An .npy keeps the first column only.
  absl::Status Open(std::vector<Column> columns);
  bool is_open() const { return !columns_.empty(); }
  // Rows of column `column`, little-endian, C order.
  absl::Status Append(size_t column, absl::string_view bytes);
  // The file appears under its name.
  absl::Status Commit();

  const std::string& path() const { return path_; }
  // What the file holds, once Commit has succeeded.
  const std::vector<WrittenArray>& arrays() const { return arrays_; }

 private:
  ArrayOutput(std::string path, std::string folder);
  std::string PartPath(const Column& column) const;

  const std::string path_;
  const std::string folder_;
  const bool single_;  // .npy
  std::vector<Column> columns_;
  std::vector<std::unique_ptr<NpyWriter>> writers_;
  std::vector<WrittenArray> arrays_;
};

bool HasArrayExtension(absl::string_view path);

}  // namespace latticed
