#include "core/checkpoint/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latticed {
namespace {

constexpr int kDirectoryFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

absl::Status ErrnoError(int error, absl::string_view doing,
                        absl::string_view path) {
  const absl::Status status =
      absl::ErrnoToStatus(error, absl::StrCat(doing, " ", path));
  absl::StatusCode code = status.code();
  switch (error) {
    case ENOENT:
    case EACCES:
    case EPERM:
    case EEXIST:
    case ENOSPC:
    case EDQUOT:
      break;
    case EROFS:
      code = absl::StatusCode::kPermissionDenied;
      break;
    case ENOTEMPTY:
      code = absl::StatusCode::kAlreadyExists;
      break;
    case ENOTDIR:
    case ELOOP:
    case ENXIO:
    case EISDIR:
    case ENAMETOOLONG:
      code = absl::StatusCode::kFailedPrecondition;
      break;
    default:
      code = absl::StatusCode::kUnavailable;
  }
  return absl::Status(code, status.message());
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

}  // namespace

Directory::Directory(int fd, std::string path)
    : fd_(fd), path_(std::move(path)) {}

Directory::Directory(Directory&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

Directory& Directory::operator=(Directory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

Directory::~Directory() {
  if (fd_ >= 0) close(fd_);
}

std::string Directory::Join(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

absl::StatusOr<Directory> Directory::Open(const std::string& path) {
  // The operator may well reach the root through a link.
  const int fd = open(path.c_str(), kDirectoryFlags & ~O_NOFOLLOW);
  if (fd < 0) return ErrnoError(errno, "cannot open directory", path);
  return Directory(fd, path);
}

absl::StatusOr<Directory> Directory::OpenOrCreate(const std::string& path) {
  absl::StatusOr<Directory> there = Open(path);
  if (!absl::IsNotFound(there.status())) return there;
  std::string parent = path;
  while (parent.size() > 1 && parent.back() == '/') parent.pop_back();
  const size_t slash = parent.rfind('/');
  const std::string name = parent.substr(slash + 1);
  if (slash == std::string::npos) {
    parent.assign(1, '.');
  } else {
    parent.resize(std::max<size_t>(slash, 1));
  }
  if (name.empty()) return there;
  absl::StatusOr<Directory> above = OpenOrCreate(parent);
  if (!above.ok()) return above.status();
  absl::StatusOr<Directory> created = above->OpenOrCreateChild(name);
  if (created.ok()) created->path_ = path;
  return created;
}

absl::StatusOr<Directory> Directory::OpenChild(absl::string_view name) const {
  const int fd = openat(fd_, std::string(name).c_str(), kDirectoryFlags);
  if (fd < 0) return ErrnoError(errno, "cannot open directory", Join(name));
  return Directory(fd, Join(name));
}

absl::StatusOr<Directory> Directory::CreateChild(absl::string_view name) const {
  if (mkdirat(fd_, std::string(name).c_str(), 0777) != 0) {
    return ErrnoError(errno, "cannot create directory", Join(name));
  }
  if (absl::Status status = Sync(); !status.ok()) return status;
  return OpenChild(name);
}

absl::StatusOr<Directory> Directory::OpenOrCreateChild(
    absl::string_view name) const {
  absl::StatusOr<Directory> created = CreateChild(name);
  if (!absl::IsAlreadyExists(created.status())) return created;
  return OpenChild(name);
}

absl::StatusOr<std::vector<std::string>> Directory::List() const {
  // A descriptor of its own: reading moves the position.
  Descriptor fd(openat(fd_, ".", kDirectoryFlags));
  std::unique_ptr<DIR, int (*)(DIR*)> dir(
      fd.get() < 0 ? nullptr : fdopendir(fd.get()), &closedir);
  if (dir == nullptr) return ErrnoError(errno, "cannot list", path_);
  fd.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    // Safe: the stream is local, which is all that glibc asks for.
    const dirent* entry = readdir(dir.get());
    if (entry == nullptr) break;
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return ErrnoError(errno, "cannot list", path_);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<struct stat> Directory::Stat(absl::string_view name) const {
  struct stat info;
  if (fstatat(fd_, std::string(name).c_str(), &info, AT_SYMLINK_NOFOLLOW)) {
    return ErrnoError(errno, "cannot look at", Join(name));
  }
  return info;
}

absl::StatusOr<std::string> Directory::ReadFile(absl::string_view name,
                                                uint64_t size_max) const {
  const Descriptor fd(openat(fd_, std::string(name).c_str(),
                             O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoError(errno, "cannot open", Join(name));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) {
    return ErrnoError(errno, "cannot look at", Join(name));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(Join(name), " is not a regular file"));
  }
  if (static_cast<uint64_t>(info.st_size) > size_max) {
    return absl::FailedPreconditionError(
        absl::StrCat(Join(name), " has ", info.st_size, " bytes, at most ",
                     size_max, " are allowed"));
  }
  std::string bytes(info.st_size, '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = read(fd.get(), &bytes[done], bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, "cannot read", Join(name));
    if (n == 0) break;  // it shrank meanwhile: the digest will tell
    done += n;
  }
  bytes.resize(done);
  return bytes;
}

absl::Status Directory::WriteFile(absl::string_view name,
                                  absl::string_view bytes) const {
  const Descriptor fd(
      openat(fd_, std::string(name).c_str(),
             O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (fd.get() < 0) return ErrnoError(errno, "cannot create", Join(name));
  while (!bytes.empty()) {
    const ssize_t n = write(fd.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, "cannot write", Join(name));
    bytes.remove_prefix(n);
  }
  if (fsync(fd.get()) != 0) {
    return ErrnoError(errno, "cannot write", Join(name));
  }
  return absl::OkStatus();
}

absl::Status Directory::Rename(absl::string_view from,
                               absl::string_view to) const {
  const std::string source(from);
  const std::string target(to);
  int failed =
      renameat2(fd_, source.c_str(), fd_, target.c_str(), RENAME_NOREPLACE);
  // Filesystems without the flag: a plain rename refuses a directory with
  // files in it, and every version has files.
  if (failed != 0 && (errno == EINVAL || errno == ENOSYS)) {
    failed = renameat(fd_, source.c_str(), fd_, target.c_str());
  }
  if (failed != 0) return ErrnoError(errno, "cannot rename to", Join(to));
  return absl::OkStatus();
}

absl::Status Directory::Exchange(absl::string_view a,
                                 absl::string_view b) const {
  if (renameat2(fd_, std::string(a).c_str(), fd_, std::string(b).c_str(),
                RENAME_EXCHANGE) == 0) {
    return absl::OkStatus();
  }
  if (errno == EINVAL || errno == ENOSYS) {
    return absl::UnimplementedError("this filesystem cannot swap names");
  }
  return ErrnoError(errno, "cannot replace", Join(b));
}

absl::Status Directory::RemoveChild(absl::string_view name) const {
  absl::StatusOr<Directory> child = OpenChild(name);
  if (!child.ok()) return child.status();
  absl::StatusOr<std::vector<std::string>> names = child->List();
  if (!names.ok()) return names.status();
  for (const std::string& file : *names) {
    if (unlinkat(child->fd_, file.c_str(), 0) != 0 && errno != ENOENT) {
      return ErrnoError(errno, "cannot remove", child->Join(file));
    }
  }
  if (unlinkat(fd_, std::string(name).c_str(), AT_REMOVEDIR) != 0 &&
      errno != ENOENT) {
    return ErrnoError(errno, "cannot remove", Join(name));
  }
  return absl::OkStatus();
}

absl::Status Directory::Sync() const {
  // Some network filesystems cannot sync a directory; they need not either.
  if (fsync(fd_) != 0 && errno != EINVAL) {
    return ErrnoError(errno, "cannot sync", path_);
  }
  return absl::OkStatus();
}

}  // namespace latticed
