// A file that appears under its name complete or not at all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace latticed {

// Writes to a temporary file beside `path` and renames it over `path` at
// Commit. Destroyed before a successful Commit it removes the temporary file
// and leaves what was at `path` alone. Errors carry the path and the operating
// system's reason: NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED (disk
// full), INTERNAL otherwise. After an error only destruction is useful.
// Not thread-safe: one owner.
class AtomicFile {
 public:
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  absl::Status Append(absl::string_view bytes);
  // Replaces bytes that have been appended.
  absl::Status Overwrite(int64_t offset, absl::string_view bytes);
  // Flushes to the disk, then renames.
  absl::Status Commit();

  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  AtomicFile(std::string path, std::string temporary, int descriptor);

  const std::string path_;
  const std::string temporary_;
  int descriptor_;  // -1 once closed
  bool committed_ = false;
  int64_t size_ = 0;
};

absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view contents);

}  // namespace latticed
