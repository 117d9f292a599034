#include "core/checkpoint/repository.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/directory.h"
#include "core/checkpoint/files.h"
#include "core/wire/digest.h"

namespace latticed {
namespace {

constexpr uint32_t kFormat = 1;

absl::StatusOr<Directory> OpenModel(const std::string& root,
                                    absl::string_view model) {
  if (absl::Status status = CheckModelName(model); !status.ok()) {
    return status;
  }
  absl::StatusOr<Directory> repository = Directory::Open(root);
  if (!repository.ok()) return repository.status();
  return repository->OpenChild(model);
}

absl::StatusOr<Directory> OpenVersion(const std::string& root,
                                      absl::string_view model,
                                      int64_t version) {
  const absl::StatusOr<Directory> directory = OpenModel(root, model);
  if (!directory.ok()) return directory.status();
  return directory->OpenChild(absl::StrCat(version));
}

absl::Status Contradiction(const Directory& directory, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat(directory.path(), "/", kManifestName, ": ", what,
                   "; publish it again, or remove the directory"));
}

}  // namespace

bool ValidModelName(absl::string_view name) {
  return !name.empty() && name.size() <= 63 && absl::ascii_islower(name[0]) &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-';
         });
}

absl::StatusOr<std::vector<std::string>> ListModels(const std::string& root) {
  const absl::StatusOr<Directory> repository = Directory::Open(root);
  if (!repository.ok()) return repository.status();
  const absl::StatusOr<std::vector<std::string>> names = repository->List();
  if (!names.ok()) return names.status();
  std::vector<std::string> models;
  for (const std::string& name : *names) {
    if (!ValidModelName(name)) continue;
    const absl::StatusOr<struct stat> info = repository->Stat(name);
    if (info.ok() && S_ISDIR(info->st_mode)) models.push_back(name);
  }
  return models;
}

absl::StatusOr<std::vector<int64_t>> ListVersions(const std::string& root,
                                                  absl::string_view model) {
  const absl::StatusOr<Directory> directory = OpenModel(root, model);
  if (!directory.ok()) return directory.status();
  const absl::StatusOr<std::vector<std::string>> names = directory->List();
  if (!names.ok()) return names.status();
  std::vector<int64_t> versions;
  for (const std::string& name : *names) {
    const int64_t version = ParseVersion(name);
    if (version == 0) continue;
    const absl::StatusOr<Directory> child = directory->OpenChild(name);
    if (child.ok() && child->Stat(kManifestName).ok()) {
      versions.push_back(version);
    }
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

absl::StatusOr<std::string> ReadDigest(const std::string& root,
                                       absl::string_view model,
                                       int64_t version) {
  const absl::StatusOr<Directory> directory = OpenVersion(root, model, version);
  if (!directory.ok()) return directory.status();
  const absl::StatusOr<std::string> json =
      directory->ReadFile(kManifestName, kManifestBytesMax);
  if (!json.ok()) return json.status();
  return Sha256Hex(*json);
}

absl::StatusOr<Checkpoint> ReadVersion(const std::string& root,
                                       absl::string_view model,
                                       int64_t version) {
  const absl::StatusOr<Directory> directory = OpenVersion(root, model, version);
  if (!directory.ok()) return directory.status();
  Checkpoint checkpoint;
  const v1::Manifest& manifest = checkpoint.manifest;
  absl::StatusOr<std::string> digest =
      ReadManifest(*directory, &checkpoint.manifest);
  if (!digest.ok()) return digest.status();
  checkpoint.digest = *std::move(digest);
  if (manifest.format() != kFormat) {
    return Contradiction(
        *directory, absl::StrCat("format is ", manifest.format(), ", this ",
                                 "build reads ", kFormat));
  }
  // A directory that was copied under another name is another model's.
  if (manifest.model() != model || manifest.version() != version) {
    return Contradiction(*directory,
                         "model and version are not those of "
                         "the directory");
  }
  if (!manifest.has_spec()) return Contradiction(*directory, "has no spec");
  const absl::StatusOr<std::map<std::string, std::string>> files =
      ReadListedFiles(*directory, manifest.files());
  if (!files.ok()) return files.status();
  const auto bytes = files->find(kWeightsName);
  if (bytes == files->end()) {
    return Contradiction(*directory,
                         absl::StrCat("does not list ", kWeightsName));
  }
  absl::StatusOr<Weights> weights = ParseSafetensors(bytes->second);
  if (!weights.ok()) {
    return absl::Status(
        weights.status().code(),
        absl::StrCat(directory->path(), ": ", weights.status().message()));
  }
  checkpoint.weights = *std::move(weights);
  return checkpoint;
}

}  // namespace latticed
