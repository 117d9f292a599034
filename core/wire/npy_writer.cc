#include "core/wire/npy_writer.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/wire/npy.h"

namespace latticed {
namespace {

std::vector<int64_t> Shape(int64_t rows, absl::Span<const int64_t> row_shape) {
  std::vector<int64_t> shape = {rows};
  shape.insert(shape.end(), row_shape.begin(), row_shape.end());
  return shape;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NpyWriter>> NpyWriter::Create(
    std::string path, std::string descr, std::vector<int64_t> row_shape) {
  if (NpyItemBytes(descr) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write ", path, " with elements ", descr,
                     "; allowed are <f4, <f8, <i8, <u8 and |u1"));
  }
  for (const int64_t extent : row_shape) {
    if (extent < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot write ", path, " with a row extent of ", extent,
                       "; extents are at least 1"));
    }
  }
  absl::StatusOr<std::unique_ptr<AtomicFile>> file =
      AtomicFile::Create(std::move(path));
  if (!file.ok()) return file.status();
  // Room for the longest row count there can be.
  const std::string header =
      NpyHeader(descr, Shape(std::numeric_limits<int64_t>::max(), row_shape));
  if (absl::Status s = (*file)->Append(header); !s.ok()) return s;
  return std::unique_ptr<NpyWriter>(
      new NpyWriter(*std::move(file), std::move(descr), std::move(row_shape),
                    static_cast<int64_t>(header.size())));
}

NpyWriter::NpyWriter(std::unique_ptr<AtomicFile> file, std::string descr,
                     std::vector<int64_t> row_shape, int64_t header_bytes)
    : file_(std::move(file)),
      descr_(std::move(descr)),
      row_shape_(std::move(row_shape)),
      header_bytes_(header_bytes),
      row_bytes_(NpyItemBytes(descr_)) {
  for (const int64_t extent : row_shape_) row_bytes_ *= extent;
}

absl::Status NpyWriter::Append(absl::string_view bytes) {
  return file_->Append(bytes);
}

int64_t NpyWriter::rows() const {
  return (file_->size() - header_bytes_) / row_bytes_;
}

absl::Status NpyWriter::Close() {
  if (header_bytes_ + rows() * row_bytes_ != file_->size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot finish ", file_->path(), ": the last row has ",
                     (file_->size() - header_bytes_) % row_bytes_, " of ",
                     row_bytes_, " bytes; append the rest first"));
  }
  const std::string header =
      NpyHeader(descr_, Shape(rows(), row_shape_), header_bytes_);
  if (absl::Status s = file_->Overwrite(0, header); !s.ok()) return s;
  return file_->Commit();
}

}  // namespace latticed
