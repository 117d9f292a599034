#include "core/wire/npy_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/wire/npy.h"

namespace latticed {
namespace {

constexpr int64_t kHeaderBytesMax = 64 << 10;
constexpr int64_t kEndBytes = 22;
constexpr int64_t kEnd64Bytes = 56;
constexpr int64_t kLocator64Bytes = 20;
constexpr int64_t kCentralBytes = 46;
constexpr int64_t kLocalBytes = 30;
constexpr int64_t kArraysMax = 64;
constexpr uint64_t kMax32 = 0xffffffff;

uint64_t Take(absl::string_view bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size && at + i < bytes.size(); ++i) {
    value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[at + i]))
             << (8 * i);
  }
  return value;
}

absl::Status Damaged(absl::string_view path, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", what,
                   "; give an .npy file or an uncompressed .npz, as "
                   "latticectl and numpy.savez write them"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<NpyReader>> NpyReader::Open(
    const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    const std::string why =
        absl::StrCat("cannot read ", path, ": ", std::strerror(errno));
    if (errno == EACCES) return absl::PermissionDeniedError(why);
    return absl::NotFoundError(why);
  }
  struct stat info;
  const bool regular = fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
  std::unique_ptr<NpyReader> reader(
      new NpyReader(path, descriptor, regular ? info.st_size : 0));
  if (!regular) return Damaged(path, "it is no file");
  auto start = reader->Read(0, std::min<int64_t>(reader->size_, 4));
  if (!start.ok()) return start.status();
  const absl::Status status = absl::StartsWith(*start, "PK\x03\x04") ||
                                      absl::StartsWith(*start, "PK\x05\x06")
                                  ? reader->ReadDirectory()
                                  : reader->AddArray("phi", 0, reader->size_);
  if (!status.ok()) return status;
  return reader;
}

NpyReader::~NpyReader() { close(descriptor_); }

absl::StatusOr<std::string> NpyReader::Read(int64_t offset,
                                            int64_t bytes) const {
  if (offset < 0 || bytes < 0 || offset > size_ || bytes > size_ - offset) {
    return Damaged(path_, "it ends too early");
  }
  std::string out(static_cast<size_t>(bytes), '\0');
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = pread(descriptor_, &out[done], out.size() - done,
                            offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return Damaged(path_,
                     n == 0 ? "it ends too early" : std::strerror(errno));
    done += static_cast<size_t>(n);
  }
  return out;
}

absl::Status NpyReader::AddArray(const std::string& name, int64_t offset,
                                 int64_t bytes) {
  const auto start = Read(offset, std::min(bytes, kHeaderBytesMax));
  if (!start.ok()) return start.status();
  const auto layout = ParseNpyHeader(*start);
  if (!layout.ok()) {
    return Damaged(path_,
                   absl::StrCat(name, " is ", layout.status().message()));
  }
  if (layout->data_bytes != bytes - layout->header_bytes) {
    return Damaged(path_, absl::StrCat("array ", name, " is cut short"));
  }
  if (layout->shape.empty()) return absl::OkStatus();
  Array array;
  array.descr = layout->descr;
  array.shape = layout->shape;
  array.offset = offset + layout->header_bytes;
  array.row_bytes = NpyItemBytes(layout->descr);
  for (size_t i = 1; i < array.shape.size(); ++i) {
    if (__builtin_mul_overflow(array.row_bytes, array.shape[i],
                               &array.row_bytes)) {
      return Damaged(path_, absl::StrCat("array ", name, " overflows"));
    }
  }
  arrays_.emplace(name, std::move(array));
  return absl::OkStatus();
}

absl::Status NpyReader::ReadDirectory() {
  // Archives with a comment at their end are none of ours, nor numpy's.
  auto end = Read(size_ - kEndBytes, kEndBytes);
  if (!end.ok()) return end.status();
  if (!absl::StartsWith(*end, "PK\x05\x06")) {
    return Damaged(path_, "it has no directory at its end");
  }
  uint64_t count = Take(*end, 10, 2);
  uint64_t bytes = Take(*end, 12, 4);
  uint64_t offset = Take(*end, 16, 4);
  if (offset == kMax32) {
    const auto locator =
        Read(size_ - kEndBytes - kLocator64Bytes, kLocator64Bytes);
    if (!locator.ok()) return locator.status();
    const auto end64 =
        Read(static_cast<int64_t>(Take(*locator, 8, 8)), kEnd64Bytes);
    if (!end64.ok()) return end64.status();
    count = Take(*end64, 32, 8);
    bytes = Take(*end64, 40, 8);
    offset = Take(*end64, 48, 8);
  }
  if (count > kArraysMax || bytes > (1 << 20)) {
    return Damaged(path_, "it has more than 64 arrays");
  }
  const auto directory =
      Read(static_cast<int64_t>(offset), static_cast<int64_t>(bytes));
  if (!directory.ok()) return directory.status();
  absl::string_view rest = *directory;
  for (uint64_t i = 0; i < count; ++i) {
    if (rest.size() < kCentralBytes || !absl::StartsWith(rest, "PK\x01\x02")) {
      return Damaged(path_, "its directory is damaged");
    }
    const uint64_t method = Take(rest, 10, 2);
    uint64_t size = Take(rest, 24, 4);
    const size_t name_bytes = Take(rest, 28, 2);
    const size_t extra_bytes = Take(rest, 30, 2);
    const size_t comment_bytes = Take(rest, 32, 2);
    uint64_t local = Take(rest, 42, 4);
    if (rest.size() <
        kCentralBytes + name_bytes + extra_bytes + comment_bytes) {
      return Damaged(path_, "its directory is damaged");
    }
    std::string name(rest.substr(kCentralBytes, name_bytes));
    absl::string_view extra =
        rest.substr(kCentralBytes + name_bytes, extra_bytes);
    while (extra.size() >= 4) {
      const uint64_t id = Take(extra, 0, 2);
      const size_t length = Take(extra, 2, 2);
      absl::string_view values = extra.substr(4, length);
      if (id == 1) {  // zip64: sizes, then the offset, where they overflow
        if (size == kMax32) {
          size = Take(values, 0, 8);
          values.remove_prefix(std::min<size_t>(values.size(), 16));
        }
        if (local == kMax32) local = Take(values, 0, 8);
      }
      extra.remove_prefix(std::min(extra.size(), 4 + length));
    }
    rest.remove_prefix(kCentralBytes + name_bytes + extra_bytes +
                       comment_bytes);
    if (method != 0) {
      return Damaged(path_, "its arrays are compressed");
    }
    if (!absl::EndsWith(name, ".npy")) continue;
    name.resize(name.size() - 4);
    const auto header = Read(static_cast<int64_t>(local), kLocalBytes);
    if (!header.ok()) return header.status();
    const uint64_t skip =
        kLocalBytes + Take(*header, 26, 2) + Take(*header, 28, 2);
    if (size > static_cast<uint64_t>(size_)) {
      return Damaged(path_, "it ends too early");
    }
    if (absl::Status s =
            AddArray(absl::CHexEscape(name), static_cast<int64_t>(local + skip),
                     static_cast<int64_t>(size));
        !s.ok()) {
      return s;
    }
  }
  return absl::OkStatus();
}

const NpyReader::Array* NpyReader::Find(absl::string_view name) const {
  const auto it = arrays_.find(std::string(name));
  return it == arrays_.end() ? nullptr : &it->second;
}

absl::StatusOr<std::string> NpyReader::Rows(const Array& array, int64_t first,
                                            int64_t count) const {
  return Read(array.offset + first * array.row_bytes, count * array.row_bytes);
}

}  // namespace latticed
