#include "core/wire/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/wire/digest.h"

namespace latticed {
namespace {

absl::Status Failure(absl::string_view what, absl::string_view path,
                     int error) {
  const std::string message =
      absl::StrCat(what, " ", path, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(
          absl::StrCat(message, "; create the directory first"));
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(
          absl::StrCat(message, "; choose a writable directory"));
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(
          absl::StrCat(message, "; free some space or choose another disk"));
    default:
      return absl::InternalError(message);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(
    std::string path) {
  // Known now, a rename over a directory would fail only after all the work.
  struct stat existing;
  if (stat(path.c_str(), &existing) == 0 && S_ISDIR(existing.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot write ", path, ": it is a directory; name a file in it"));
  }
  // Beside the target, so that the rename stays within one file system.
  std::string temporary =
      absl::StrCat(path, ".", absl::BytesToHexString(RandomBytes(6)), ".part");
  const int descriptor =
      open(temporary.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
  if (descriptor < 0) return Failure("cannot write", path, errno);
  return std::unique_ptr<AtomicFile>(
      new AtomicFile(std::move(path), std::move(temporary), descriptor));
}

AtomicFile::AtomicFile(std::string path, std::string temporary, int descriptor)
    : path_(std::move(path)),
      temporary_(std::move(temporary)),
      descriptor_(descriptor) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!committed_) unlink(temporary_.c_str());
}

absl::Status AtomicFile::Append(absl::string_view bytes) {
  const int64_t offset = size_;
  size_ += static_cast<int64_t>(bytes.size());
  return Overwrite(offset, bytes);
}

absl::Status AtomicFile::Overwrite(int64_t offset, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      return Failure("cannot write", path_, errno);
    }
    bytes.remove_prefix(static_cast<size_t>(n));
    offset += n;
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  if (committed_ || descriptor_ < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " has been committed before"));
  }
  // Without the flush a crash after the rename may leave an empty file.
  if (fsync(descriptor_) != 0 && errno != EINVAL) {
    return Failure("cannot write", path_, errno);
  }
  const int closed = close(std::exchange(descriptor_, -1));
  if (closed != 0) return Failure("cannot write", path_, errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    return Failure("cannot write", path_, errno);
  }
  committed_ = true;
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view contents) {
  absl::StatusOr<std::unique_ptr<AtomicFile>> file = AtomicFile::Create(path);
  if (!file.ok()) return file.status();
  if (absl::Status s = (*file)->Append(contents); !s.ok()) return s;
  return (*file)->Commit();
}

}  // namespace latticed
