// What versions and references have in common: a directory with a manifest in
// protobuf JSON that lists the other files. Shared by the sources of this
// folder only.
//
// The manifest's own digest stands beside it in manifest.sha256, in the form
// that `sha256sum -c` reads: without it a flipped digit of a figure would pass
// for another version.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/directory.h"
#include "google/protobuf/message.h"
#include "latticed/v1/manifest.pb.h"

namespace latticed {

inline constexpr char kManifestName[] = "manifest.json";
inline constexpr char kManifestDigestName[] = "manifest.sha256";
inline constexpr char kWeightsName[] = "weights.safetensors";
inline constexpr char kConfigurationsName[] = "configurations.npy";
inline constexpr char kReferenceName[] = "reference";
inline constexpr uint64_t kManifestBytesMax = uint64_t{1} << 20;
inline constexpr uint64_t kFileBytesMax = uint64_t{1} << 30;
inline constexpr int kFilesMax = 16;

using ManifestFiles = google::protobuf::RepeatedPtrField<v1::ManifestFile>;

// Reads the manifest into `manifest`; returns its digest. DATA_LOSS unless it
// is intact and of the kind of `manifest`.
absl::StatusOr<std::string> ReadManifest(const Directory& directory,
                                         google::protobuf::Message* manifest);

// Every listed file by name, verified: size and SHA-256.
absl::StatusOr<std::map<std::string, std::string>> ReadListedFiles(
    const Directory& directory, const ManifestFiles& files);

// Writes the manifest and its digest, which it returns.
absl::StatusOr<std::string> WriteManifest(
    const Directory& directory, const google::protobuf::Message& manifest);
// Writes a file and appends it to `files`.
absl::Status WriteListedFile(const Directory& directory, absl::string_view name,
                             absl::string_view bytes, ManifestFiles* files);

// The version a directory name stands for, 1..10^15 without leading zeros; 0 if
// it is none.
int64_t ParseVersion(absl::string_view name);

// INVALID_ARGUMENT unless ValidModelName.
absl::Status CheckModelName(absl::string_view name);

// A temporary directory that disappears unless it was renamed away.
class PendingDirectory {
 public:
  // `parent` must outlive it.
  static absl::StatusOr<PendingDirectory> Create(const Directory& parent);
  // Those of killed publishers: older than an hour.
  static void RemoveOrphans(const Directory& parent);

  PendingDirectory(PendingDirectory&& other) noexcept;
  ~PendingDirectory();

  const std::string& name() const { return name_; }
  const Directory& directory() const { return directory_; }

 private:
  PendingDirectory(const Directory* parent, std::string name,
                   Directory directory);

  const Directory* parent_;
  std::string name_;
  Directory directory_;
};

}  // namespace latticed
