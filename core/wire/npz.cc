// The zip container of PackNpz (APPNOTE.TXT 6.3.10 sections 4.3 and 4.5.3).
#include <fcntl.h>
#include <isa-l/crc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/wire/npy_writer.h"

namespace latticed {
namespace {

constexpr uint32_t kMax32 = std::numeric_limits<uint32_t>::max();
constexpr uint16_t kStored = 0;
constexpr uint16_t kVersionPlain = 20;
constexpr uint16_t kVersionZip64 = 45;
// 1 January 1980, the first date a zip can say: archives of equal arrays are
// equal bytes.
constexpr uint16_t kDate = 0x0021;
constexpr int64_t kCrcOffset = 14;  // in the local header

struct Member {
  std::string file_name;
  uint64_t size = 0;
  uint64_t offset = 0;  // of the local header
  uint32_t crc = 0;
};

void Put16(std::string* out, uint16_t value) {
  out->push_back(static_cast<char>(value & 0xff));
  out->push_back(static_cast<char>(value >> 8));
}
void Put32(std::string* out, uint32_t value) {
  Put16(out, static_cast<uint16_t>(value & 0xffff));
  Put16(out, static_cast<uint16_t>(value >> 16));
}
void Put64(std::string* out, uint64_t value) {
  Put32(out, static_cast<uint32_t>(value & kMax32));
  Put32(out, static_cast<uint32_t>(value >> 32));
}
uint32_t Clip32(uint64_t value) {
  return value < kMax32 ? static_cast<uint32_t>(value) : kMax32;
}

// What local and central headers share, from "version needed" on.
void PutCommon(std::string* out, const Member& member, uint16_t extra_bytes) {
  Put16(out, extra_bytes > 0 ? kVersionZip64 : kVersionPlain);
  Put16(out, 0);  // flags
  Put16(out, kStored);
  Put16(out, 0);  // time
  Put16(out, kDate);
  Put32(out, member.crc);
  Put32(out, Clip32(member.size));  // compressed
  Put32(out, Clip32(member.size));
  Put16(out, static_cast<uint16_t>(member.file_name.size()));
  Put16(out, extra_bytes);
}

std::string LocalHeader(const Member& member) {
  std::string extra;
  if (member.size >= kMax32) {
    Put16(&extra, 1);  // zip64
    Put16(&extra, 16);
    Put64(&extra, member.size);
    Put64(&extra, member.size);
  }
  std::string out = "PK\x03\x04";
  PutCommon(&out, member, static_cast<uint16_t>(extra.size()));
  return absl::StrCat(out, member.file_name, extra);
}

std::string CentralHeader(const Member& member) {
  std::string values;
  if (member.size >= kMax32) {
    Put64(&values, member.size);
    Put64(&values, member.size);
  }
  if (member.offset >= kMax32) Put64(&values, member.offset);
  std::string extra;
  if (!values.empty()) {
    Put16(&extra, 1);
    Put16(&extra, static_cast<uint16_t>(values.size()));
    extra += values;
  }
  std::string out = "PK\x01\x02";
  Put16(&out, kVersionZip64);  // made by
  PutCommon(&out, member, static_cast<uint16_t>(extra.size()));
  Put16(&out, 0);  // comment
  Put16(&out, 0);  // disk
  Put16(&out, 0);  // internal attributes
  Put32(&out, 0);  // external attributes
  Put32(&out, Clip32(member.offset));
  return absl::StrCat(out, member.file_name, extra);
}

std::string EndOfDirectory(uint16_t count, uint64_t offset, uint64_t bytes) {
  std::string out;
  if (offset >= kMax32) {
    const uint64_t here = offset + bytes;
    out += "PK\x06\x06";
    Put64(&out, 44);  // of the rest of this record
    Put16(&out, kVersionZip64);
    Put16(&out, kVersionZip64);
    Put32(&out, 0);
    Put32(&out, 0);
    Put64(&out, count);
    Put64(&out, count);
    Put64(&out, bytes);
    Put64(&out, offset);
    out += "PK\x06\x07";
    Put32(&out, 0);
    Put64(&out, here);
    Put32(&out, 1);
  }
  out += "PK\x05\x06";
  Put16(&out, 0);
  Put16(&out, 0);
  Put16(&out, count);
  Put16(&out, count);
  Put32(&out, Clip32(bytes));
  Put32(&out, Clip32(offset));
  Put16(&out, 0);
  return out;
}

absl::Status Unreadable(absl::string_view path, absl::string_view why) {
  return absl::InternalError(absl::StrCat("cannot read ", path, ": ", why));
}

// Appends the member's data, whose size is known, and fills in its checksum.
absl::Status CopyData(int descriptor, const std::string& from, Member* member,
                      AtomicFile* archive) {
  std::string buffer(size_t{1} << 20, '\0');
  uint64_t copied = 0;
  while (true) {
    const ssize_t n = read(descriptor, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Unreadable(from, std::strerror(errno));
    if (n == 0) break;
    const absl::string_view bytes(buffer.data(), static_cast<size_t>(n));
    member->crc = crc32_gzip_refl(
        member->crc, reinterpret_cast<const unsigned char*>(bytes.data()),
        bytes.size());
    copied += bytes.size();
    if (absl::Status s = archive->Append(bytes); !s.ok()) return s;
  }
  if (copied != member->size) {
    return Unreadable(from, "it changed while it was copied");
  }
  std::string crc;
  Put32(&crc, member->crc);
  return archive->Overwrite(static_cast<int64_t>(member->offset) + kCrcOffset,
                            crc);
}

absl::Status AddMember(const NpzEntry& entry, Member* member,
                       AtomicFile* archive) {
  const int descriptor = open(entry.npy_path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return Unreadable(entry.npy_path, std::strerror(errno));
  }
  struct stat info;
  absl::Status status;
  if (fstat(descriptor, &info) != 0) {
    status = Unreadable(entry.npy_path, std::strerror(errno));
  } else {
    member->file_name = absl::StrCat(entry.name, ".npy");
    member->size = static_cast<uint64_t>(info.st_size);
    member->offset = static_cast<uint64_t>(archive->size());
    status = archive->Append(LocalHeader(*member));
    if (status.ok()) {
      status = CopyData(descriptor, entry.npy_path, member, archive);
    }
  }
  close(descriptor);
  return status;
}

}  // namespace

absl::Status PackNpz(const std::string& path,
                     absl::Span<const NpzEntry> entries) {
  if (entries.size() > std::numeric_limits<uint16_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write ", path, " with ", entries.size(),
                     " arrays; at most 65535 fit"));
  }
  absl::StatusOr<std::unique_ptr<AtomicFile>> archive =
      AtomicFile::Create(path);
  if (!archive.ok()) return archive.status();
  std::string directory;
  for (const NpzEntry& entry : entries) {
    Member member;
    absl::Status s = AddMember(entry, &member, archive->get());
    if (!s.ok()) return s;
    directory += CentralHeader(member);
  }
  const uint64_t offset = static_cast<uint64_t>((*archive)->size());
  absl::Status s = (*archive)->Append(absl::StrCat(
      directory, EndOfDirectory(static_cast<uint16_t>(entries.size()), offset,
                                directory.size())));
  if (!s.ok()) return s;
  return (*archive)->Commit();
}

}  // namespace latticed
