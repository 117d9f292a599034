// An open directory and what a repository does in it. Names are single path
// components: nothing a caller passes can lead out of the directory, and
// symbolic links are never followed below the path given to Open.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace latticed {

// Errors carry the path and errno's meaning: NOT_FOUND, PERMISSION_DENIED,
// ALREADY_EXISTS, RESOURCE_EXHAUSTED (disk full), FAILED_PRECONDITION (not the
// kind of file it should be), else UNAVAILABLE (an I/O error may pass).
// Thread-compatible.
class Directory {
 public:
  static absl::StatusOr<Directory> Open(const std::string& path);
  // Creates missing parents too.
  static absl::StatusOr<Directory> OpenOrCreate(const std::string& path);

  Directory(Directory&& other) noexcept;
  Directory& operator=(Directory&& other) noexcept;
  ~Directory();

  const std::string& path() const { return path_; }

  absl::StatusOr<Directory> OpenChild(absl::string_view name) const;
  absl::StatusOr<Directory> OpenOrCreateChild(absl::string_view name) const;
  // A new, empty one: ALREADY_EXISTS if the name is taken.
  absl::StatusOr<Directory> CreateChild(absl::string_view name) const;

  // Entries but . and .., sorted.
  absl::StatusOr<std::vector<std::string>> List() const;
  // Of the entry itself, not of what a link points to.
  absl::StatusOr<struct stat> Stat(absl::string_view name) const;

  // A regular file of at most `size_max` bytes; the size is checked before
  // memory is taken. Never blocks on a FIFO.
  absl::StatusOr<std::string> ReadFile(absl::string_view name,
                                       uint64_t size_max) const;
  // On disk when it returns; replaces what was there, unless that is a link.
  absl::Status WriteFile(absl::string_view name, absl::string_view bytes) const;

  // ALREADY_EXISTS if `to` is taken.
  absl::Status Rename(absl::string_view from, absl::string_view to) const;
  // Swaps two entries in one step, where the filesystem can: UNIMPLEMENTED
  // where it cannot.
  absl::Status Exchange(absl::string_view a, absl::string_view b) const;
  // A directory and the files in it; one level deep.
  absl::Status RemoveChild(absl::string_view name) const;
  // Makes creations and renames in it durable.
  absl::Status Sync() const;

 private:
  Directory(int fd, std::string path);

  std::string Join(absl::string_view name) const;

  int fd_ = -1;
  std::string path_;
};

}  // namespace latticed
