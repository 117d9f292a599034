#include "client/cli/output.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/wire/crc32c.h"

namespace latticed {
namespace {

absl::Status CannotWrite(absl::string_view path, int error) {
  std::string what = std::strerror(error);
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      absl::StrAppend(&what, "; create its folder first");
      return absl::NotFoundError(
          absl::StrCat("cannot write ", path, ": ", what));
    case EACCES:
    case EPERM:
    case EROFS:
      absl::StrAppend(&what, "; choose a folder that you may write to");
      return absl::PermissionDeniedError(
          absl::StrCat("cannot write ", path, ": ", what));
    default:
      return absl::InternalError(
          absl::StrCat("cannot write ", path, ": ", what));
  }
}

}  // namespace

bool HasArrayExtension(absl::string_view path) {
  return absl::EndsWith(path, ".npy") || absl::EndsWith(path, ".npz");
}

absl::StatusOr<std::unique_ptr<ArrayOutput>> ArrayOutput::Prepare(
    std::string path, bool force) {
  if (!HasArrayExtension(path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("output file ", path, " must end in .npy or .npz"));
  }
  struct stat existing;
  if (stat(path.c_str(), &existing) == 0) {
    if (S_ISDIR(existing.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot write ", path, ": it is a folder; name a file in it"));
    }
    if (!force) {
      return absl::AlreadyExistsError(
          absl::StrCat(path,
                       " exists and may hold draws; name another file or say "
                       "--force to replace it"));
    }
  }
  const std::filesystem::path file(path);
  std::string folder =
      (file.parent_path() /
       absl::StrCat(".", file.filename().string(), ".partial-XXXXXX"))
          .string();
  if (mkdtemp(folder.data()) == nullptr) return CannotWrite(path, errno);
  return std::unique_ptr<ArrayOutput>(
      new ArrayOutput(std::move(path), std::move(folder)));
}

ArrayOutput::ArrayOutput(std::string path, std::string folder)
    : path_(std::move(path)),
      folder_(std::move(folder)),
      single_(absl::EndsWith(path_, ".npy")) {}

ArrayOutput::~ArrayOutput() {
  writers_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string ArrayOutput::PartPath(const Column& column) const {
  return absl::StrCat(folder_, "/", column.name, ".npy");
}

absl::Status ArrayOutput::Open(std::vector<Column> columns) {
  columns_ = std::move(columns);
  for (const Column& column : columns_) {
    if (single_ && !writers_.empty()) break;
    auto writer =
        NpyWriter::Create(PartPath(column), column.descr, column.row_shape);
    if (!writer.ok()) return writer.status();
    writers_.push_back(std::move(*writer));
    arrays_.push_back({.column = column});
  }
  return absl::OkStatus();
}

absl::Status ArrayOutput::Append(size_t column, absl::string_view bytes) {
  if (column >= writers_.size()) return absl::OkStatus();
  arrays_[column].crc32c = Crc32c(bytes, arrays_[column].crc32c);
  return writers_[column]->Append(bytes);
}

absl::Status ArrayOutput::Commit() {
  std::vector<NpzEntry> entries;
  for (size_t i = 0; i < writers_.size(); ++i) {
    arrays_[i].rows = writers_[i]->rows();
    if (absl::Status s = writers_[i]->Close(); !s.ok()) return s;
    entries.push_back(
        {.name = columns_[i].name, .npy_path = PartPath(columns_[i])});
  }
  if (!single_) return PackNpz(path_, entries);
  if (rename(entries[0].npy_path.c_str(), path_.c_str()) != 0) {
    return CannotWrite(path_, errno);
  }
  return absl::OkStatus();
}

}  // namespace latticed
