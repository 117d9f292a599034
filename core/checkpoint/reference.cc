#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/directory.h"
#include "core/checkpoint/files.h"
#include "core/checkpoint/repository.h"
#include "core/wire/npy.h"
#include "latticed/build_id.h"

namespace latticed {
namespace {

// An exchange removes the old directory under a reader: it starts over.
constexpr int kReadAttempts = 3;

// [configurations, L_0, L_1], or empty if the lattice is none.
std::vector<int64_t> Shape(const v1::ReferenceManifest& manifest) {
  constexpr uint64_t kCountMax = uint64_t{1} << 28;
  const v1::Lattice& lattice = manifest.lattice();
  if (lattice.extent_size() != 2 || manifest.configurations() > kCountMax) {
    return {};
  }
  for (const uint32_t extent : lattice.extent()) {
    if (extent < 1 || extent > 65536) return {};
  }
  return {static_cast<int64_t>(manifest.configurations()), lattice.extent(0),
          lattice.extent(1)};
}

absl::StatusOr<Reference> ReadOnce(const Directory& directory) {
  const auto damaged = [&directory](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat(directory.path(), ": ", what,
                     "; write the reference again, or remove it"));
  };
  Reference reference;
  const v1::ReferenceManifest& manifest = reference.manifest;
  const absl::StatusOr<std::string> digest =
      ReadManifest(directory, &reference.manifest);
  if (!digest.ok()) return digest.status();
  if (manifest.format() != 1) {
    return damaged(
        absl::StrCat("format is ", manifest.format(), ", this build reads 1"));
  }
  const absl::StatusOr<std::map<std::string, std::string>> files =
      ReadListedFiles(directory, manifest.files());
  if (!files.ok()) return files.status();
  const auto bytes = files->find(kConfigurationsName);
  if (bytes == files->end()) {
    return damaged(
        absl::StrCat("the manifest does not list ", kConfigurationsName));
  }
  const absl::StatusOr<NpyArray> array = ParseNpy(bytes->second);
  if (!array.ok()) {
    return damaged(
        absl::StrCat(kConfigurationsName, ": ", array.status().message()));
  }
  const std::vector<int64_t> shape = Shape(manifest);
  if (shape.empty() || array->descr != "<f4" || array->shape != shape) {
    return damaged(absl::StrCat(kConfigurationsName, " is not float32 of the ",
                                "manifest's [configurations, L_0, L_1]"));
  }
  reference.phi.resize(array->bytes.size() / sizeof(float));
  if (!reference.phi.empty()) {  // a reference may have observables alone
    std::memcpy(reference.phi.data(), array->bytes.data(),
                reference.phi.size() * sizeof(float));
  }
  for (const float value : reference.phi) {
    if (!std::isfinite(value)) {
      return damaged(
          absl::StrCat(kConfigurationsName, " has a value that is not finite"));
    }
  }
  return reference;
}

}  // namespace

absl::StatusOr<Reference> ReadReference(const std::string& root,
                                        absl::string_view model) {
  if (absl::Status status = CheckModelName(model); !status.ok()) {
    return status;
  }
  absl::StatusOr<Reference> reference = absl::UnknownError("");
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    const absl::StatusOr<Directory> repository = Directory::Open(root);
    if (!repository.ok()) return repository.status();
    const absl::StatusOr<Directory> directory = repository->OpenChild(model);
    if (!directory.ok()) return directory.status();
    const absl::StatusOr<Directory> child =
        directory->OpenChild(kReferenceName);
    if (!child.ok()) return child.status();
    reference = ReadOnce(*child);
    if (reference.ok()) break;
  }
  return reference;
}

absl::Status WriteReference(const std::string& root, const std::string& model,
                            v1::ReferenceManifest manifest,
                            absl::Span<const float> phi) {
  if (absl::Status status = CheckModelName(model); !status.ok()) {
    return status;
  }
  const std::vector<int64_t> shape = Shape(manifest);
  if (shape.empty() ||
      shape[0] * shape[1] * shape[2] != static_cast<int64_t>(phi.size())) {
    return absl::InvalidArgumentError(
        "reference: phi must hold configurations x L_0 x L_1 values of a "
        "lattice of two extents");
  }
  const absl::StatusOr<Directory> repository = Directory::OpenOrCreate(root);
  if (!repository.ok()) return repository.status();
  const absl::StatusOr<Directory> directory =
      repository->OpenOrCreateChild(model);
  if (!directory.ok()) return directory.status();
  PendingDirectory::RemoveOrphans(*directory);

  const absl::StatusOr<PendingDirectory> temporary =
      PendingDirectory::Create(*directory);
  if (!temporary.ok()) return temporary.status();
  manifest.set_format(1);
  manifest.set_build(kBuildId);
  manifest.clear_files();
  const absl::string_view raw(reinterpret_cast<const char*>(phi.data()),
                              phi.size() * sizeof(float));
  absl::Status status = WriteListedFile(
      temporary->directory(), kConfigurationsName,
      absl::StrCat(NpyHeader("<f4", shape), raw), manifest.mutable_files());
  if (!status.ok()) return status;
  const absl::StatusOr<std::string> digest =
      WriteManifest(temporary->directory(), manifest);
  if (!digest.ok()) return digest.status();
  status = temporary->directory().Sync();
  if (!status.ok()) return status;

  status = directory->Rename(temporary->name(), kReferenceName);
  if (absl::IsAlreadyExists(status)) {
    // The old one gets the temporary name and goes with it.
    status = directory->Exchange(temporary->name(), kReferenceName);
  }
  if (absl::IsUnimplemented(status)) {
    status = directory->RemoveChild(kReferenceName);
    if (status.ok()) {
      status = directory->Rename(temporary->name(), kReferenceName);
    }
  }
  if (status.ok()) status = directory->Sync();
  return status;
}

}  // namespace latticed
