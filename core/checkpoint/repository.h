// A model repository: <root>/<model>/<version>/{manifest.json,
// weights.safetensors}, version a decimal integer >= 1 that is never reused.
// <root>/<model>/reference/ holds Monte Carlo values and configurations.
//
// Only the trainer writes. A version appears by rename, complete or not at all,
// and never changes: the SHA-256 of manifest.json is its identity.
//
// Files are opened relative to the repository with O_NOFOLLOW, regular files
// only, capped in size before they are read. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/weights.h"
#include "latticed/v1/manifest.pb.h"

namespace latticed {

struct Checkpoint {
  v1::Manifest manifest;
  std::string digest;  // 64 hex digits
  Weights weights;
};

// [a-z][a-z0-9-]{0,62}
bool ValidModelName(absl::string_view name);

// Names of the model directories, sorted. NOT_FOUND if `root` is missing,
// FAILED_PRECONDITION if it is no directory, PERMISSION_DENIED as it says.
absl::StatusOr<std::vector<std::string>> ListModels(const std::string& root);

// Versions that have a manifest, ascending.
absl::StatusOr<std::vector<int64_t>> ListVersions(const std::string& root,
                                                  absl::string_view model);

// SHA-256 of the manifest file, cheap: what a poll compares. NOT_FOUND if the
// version is missing.
absl::StatusOr<std::string> ReadDigest(const std::string& root,
                                       absl::string_view model,
                                       int64_t version);

// Reads and verifies everything: manifest, every listed file's size and
// SHA-256, weights. DATA_LOSS says which file differs and what to do.
absl::StatusOr<Checkpoint> ReadVersion(const std::string& root,
                                       absl::string_view model,
                                       int64_t version);

// Writes the next free version: temporary directory on the same filesystem,
// fsync of files and directories, rename, fsync of the parent. Fills in
// format, model, version, files, build and publish_time. A crash leaves
// nothing visible or a complete version; an error leaves nothing. Creates
// `root` and the model directory. Removes temporary directories older than an
// hour that a killed publisher left.
absl::StatusOr<Checkpoint> Publish(const std::string& root,
                                   const std::string& model,
                                   v1::Manifest manifest,
                                   const Weights& weights);

struct Reference {
  v1::ReferenceManifest manifest;
  std::vector<float> phi;  // [configurations, L_0, L_1]
};
// <root>/<model>/reference, verified like a version. NOT_FOUND if absent.
absl::StatusOr<Reference> ReadReference(const std::string& root,
                                        absl::string_view model);
// Replaces it, as atomically as Publish. phi [configurations, L_0, L_1].
absl::Status WriteReference(const std::string& root, const std::string& model,
                            v1::ReferenceManifest manifest,
                            absl::Span<const float> phi);

}  // namespace latticed
