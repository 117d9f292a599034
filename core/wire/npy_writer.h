// Writes .npy files a block at a time and packs them into an .npz.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/wire/atomic_file.h"

namespace latticed {

// An array [n, row_shape...] whose n is known only at Close. The file appears
// under its name at Close; destroyed before, the writer leaves nothing behind.
// Errors are AtomicFile's. Not thread-safe: one owner.
class NpyWriter {
 public:
  // INVALID_ARGUMENT for an unknown descr (see NpyItemBytes), an extent < 1 or
  // a directory as path.
  static absl::StatusOr<std::unique_ptr<NpyWriter>> Create(
      std::string path, std::string descr, std::vector<int64_t> row_shape);

  // Little-endian elements in C order; block.h's BytesOf makes them.
  absl::Status Append(absl::string_view bytes);
  // FAILED_PRECONDITION if the last row is incomplete.
  absl::Status Close();

  int64_t rows() const;

 private:
  NpyWriter(std::unique_ptr<AtomicFile> file, std::string descr,
            std::vector<int64_t> row_shape, int64_t header_bytes);

  std::unique_ptr<AtomicFile> file_;
  const std::string descr_;
  const std::vector<int64_t> row_shape_;
  const int64_t header_bytes_;
  int64_t row_bytes_;
};

struct NpzEntry {
  std::string name;      // in the archive, without ".npy"
  std::string npy_path;  // a finished .npy file
};

// A stored (uncompressed) zip of the entries, as numpy.savez writes it; zip64
// where sizes need it. The archive appears complete or not at all; the .npy
// files stay. At most 65535 entries.
absl::Status PackNpz(const std::string& path,
                     absl::Span<const NpzEntry> entries);

}  // namespace latticed
