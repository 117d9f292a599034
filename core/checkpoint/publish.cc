#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/checkpoint/directory.h"
#include "core/checkpoint/files.h"
#include "core/checkpoint/repository.h"
#include "latticed/build_id.h"

namespace latticed {
namespace {

// Above every version there is, even one that lost its manifest.
absl::StatusOr<int64_t> NextVersion(const Directory& model) {
  const absl::StatusOr<std::vector<std::string>> names = model.List();
  if (!names.ok()) return names.status();
  int64_t last = 0;
  for (const std::string& name : *names) {
    last = std::max(last, ParseVersion(name));
  }
  return last + 1;
}

}  // namespace

absl::StatusOr<Checkpoint> Publish(const std::string& root,
                                   const std::string& model,
                                   v1::Manifest manifest,
                                   const Weights& weights) {
  if (absl::Status status = CheckModelName(model); !status.ok()) {
    return status;
  }
  if (!manifest.has_spec()) {
    return absl::InvalidArgumentError("manifest: spec is missing");
  }
  const std::string bytes = SerializeSafetensors(weights);
  if (const auto parsed = ParseSafetensors(bytes); !parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "weights that cannot be read back: ", parsed.status().message()));
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
  manifest.set_model(model);
  manifest.set_build(kBuildId);
  manifest.clear_files();
  absl::Status status = WriteListedFile(temporary->directory(), kWeightsName,
                                        bytes, manifest.mutable_files());
  // Another publisher may take the number first: then it is the next one's
  // turn, and the manifest says so.
  while (status.ok()) {
    const absl::StatusOr<int64_t> version = NextVersion(*directory);
    if (!version.ok()) return version.status();
    manifest.set_version(*version);
    manifest.set_publish_time(
        absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone()));
    absl::StatusOr<std::string> digest =
        WriteManifest(temporary->directory(), manifest);
    if (!digest.ok()) return digest.status();
    status = temporary->directory().Sync();
    if (!status.ok()) break;
    status = directory->Rename(temporary->name(), absl::StrCat(*version));
    if (absl::IsAlreadyExists(status)) {
      status = absl::OkStatus();
      continue;
    }
    if (status.ok()) status = directory->Sync();
    if (!status.ok()) break;
    return Checkpoint{std::move(manifest), *std::move(digest), weights};
  }
  return status;
}

}  // namespace latticed
