#include "core/checkpoint/files.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/checkpoint/repository.h"
#include "core/wire/digest.h"
#include "google/protobuf/util/json_util.h"

namespace latticed {
namespace {

constexpr char kTemporaryPrefix[] = ".tmp-";
constexpr absl::Duration kOrphanAge = absl::Hours(1);

absl::Status Damaged(const Directory& directory, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat(directory.path(), ": ", what,
                   "; publish it again, or remove the directory"));
}

// A file that a manifest promises is damage when it is not there; trouble of
// the disk stays what it is.
absl::StatusOr<std::string> ReadPromised(const Directory& directory,
                                         absl::string_view name,
                                         uint64_t size_max) {
  absl::StatusOr<std::string> bytes = directory.ReadFile(name, size_max);
  if (absl::IsNotFound(bytes.status()) ||
      absl::IsFailedPrecondition(bytes.status())) {
    return Damaged(directory, bytes.status().message());
  }
  return bytes;
}

bool PlainFileName(absl::string_view name) {
  return !name.empty() && name.size() <= 255 && absl::ascii_isalnum(name[0]) &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

std::string DigestLine(absl::string_view digest) {
  return absl::StrCat(digest, "  ", kManifestName, "\n");
}

}  // namespace

absl::StatusOr<std::string> ReadManifest(const Directory& directory,
                                         google::protobuf::Message* manifest) {
  absl::StatusOr<std::string> json =
      ReadPromised(directory, kManifestName, kManifestBytesMax);
  if (!json.ok()) return json.status();
  const absl::StatusOr<std::string> line =
      ReadPromised(directory, kManifestDigestName, 256);
  if (!line.ok()) return line.status();
  std::string digest = Sha256Hex(*json);
  if (*line != DigestLine(digest)) {
    return Damaged(directory, absl::StrCat("the SHA-256 of ", kManifestName,
                                           " is ", digest, ", not what ",
                                           kManifestDigestName, " says"));
  }
  const auto parsed =
      google::protobuf::util::JsonStringToMessage(*json, manifest);
  if (!parsed.ok()) {
    return Damaged(
        directory,
        absl::StrCat(kManifestName, " is no ",
                     manifest->GetDescriptor()->name(), ": ",
                     absl::CHexEscape(absl::string_view(
                         parsed.message().data(), parsed.message().size()))));
  }
  return digest;
}

absl::StatusOr<std::map<std::string, std::string>> ReadListedFiles(
    const Directory& directory, const ManifestFiles& files) {
  if (files.size() > kFilesMax) {
    return Damaged(directory,
                   absl::StrCat("the manifest lists ", files.size(),
                                " files, at most ", kFilesMax, " are allowed"));
  }
  std::map<std::string, std::string> contents;
  uint64_t left = kFileBytesMax;
  for (const v1::ManifestFile& file : files) {
    const std::string name = absl::CHexEscape(file.name());
    if (!PlainFileName(file.name()) || contents.contains(file.name())) {
      return Damaged(directory,
                     absl::StrCat("the manifest lists \"", name,
                                  "\", which is no plain file name or is ",
                                  "there twice"));
    }
    if (file.size_bytes() > left) {
      return Damaged(directory,
                     absl::StrCat("the manifest gives ", name, " ",
                                  file.size_bytes(), " bytes, at most ",
                                  kFileBytesMax, " are allowed in all"));
    }
    left -= file.size_bytes();
    absl::StatusOr<std::string> bytes =
        ReadPromised(directory, file.name(), file.size_bytes());
    if (!bytes.ok()) return bytes.status();
    if (bytes->size() != file.size_bytes()) {
      return Damaged(directory, absl::StrCat(name, " has ", bytes->size(),
                                             " bytes, the manifest says ",
                                             file.size_bytes()));
    }
    if (Sha256Hex(*bytes) != file.sha256()) {
      return Damaged(directory, absl::StrCat("the SHA-256 of ", name,
                                             " differs from the manifest"));
    }
    contents.emplace(file.name(), *std::move(bytes));
  }
  return contents;
}

absl::StatusOr<std::string> WriteManifest(
    const Directory& directory, const google::protobuf::Message& manifest) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto printed =
      google::protobuf::util::MessageToJsonString(manifest, &json, options);
  if (!printed.ok() || json.size() > kManifestBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the manifest has no JSON form of at most ",
                     kManifestBytesMax, " bytes"));
  }
  std::string digest = Sha256Hex(json);
  absl::Status status = directory.WriteFile(kManifestName, json);
  if (status.ok()) {
    status = directory.WriteFile(kManifestDigestName, DigestLine(digest));
  }
  if (!status.ok()) return status;
  return digest;
}

absl::Status WriteListedFile(const Directory& directory, absl::string_view name,
                             absl::string_view bytes, ManifestFiles* files) {
  v1::ManifestFile* file = files->Add();
  file->set_name(std::string(name));
  file->set_size_bytes(bytes.size());
  file->set_sha256(Sha256Hex(bytes));
  return directory.WriteFile(name, bytes);
}

int64_t ParseVersion(absl::string_view name) {
  constexpr int64_t kVersionMax = 1'000'000'000'000'000;
  int64_t version = 0;
  if (!absl::SimpleAtoi(name, &version) || version < 1 ||
      version > kVersionMax || absl::StrCat(version) != name) {
    return 0;
  }
  return version;
}

absl::Status CheckModelName(absl::string_view name) {
  if (ValidModelName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "model: \"", absl::CHexEscape(name.substr(0, 80)),
      "\" is no model name; allowed are 1 to 63 characters of a-z, 0-9 and -, "
      "the first a letter"));
}

PendingDirectory::PendingDirectory(const Directory* parent, std::string name,
                                   Directory directory)
    : parent_(parent),
      name_(std::move(name)),
      directory_(std::move(directory)) {}

PendingDirectory::PendingDirectory(PendingDirectory&& other) noexcept
    : parent_(other.parent_),
      name_(std::exchange(other.name_, {})),
      directory_(std::move(other.directory_)) {}

absl::StatusOr<PendingDirectory> PendingDirectory::Create(
    const Directory& parent) {
  std::string name =
      absl::StrCat(kTemporaryPrefix, absl::BytesToHexString(RandomBytes(8)));
  absl::StatusOr<Directory> directory = parent.CreateChild(name);
  if (!directory.ok()) return directory.status();
  return PendingDirectory(&parent, std::move(name), *std::move(directory));
}

PendingDirectory::~PendingDirectory() {
  // NOT_FOUND after a rename, and after a move the name is empty; a failure
  // leaves an orphan for later.
  if (!name_.empty()) parent_->RemoveChild(name_).IgnoreError();
}

void PendingDirectory::RemoveOrphans(const Directory& parent) {
  const absl::StatusOr<std::vector<std::string>> names = parent.List();
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (!absl::StartsWith(name, kTemporaryPrefix)) continue;
    const absl::StatusOr<struct stat> info = parent.Stat(name);
    if (info.ok() &&
        absl::Now() - absl::FromTimeT(info->st_mtime) > kOrphanAge) {
      parent.RemoveChild(name).IgnoreError();
    }
  }
}

}  // namespace latticed
