#include "trainer/agreement.h"

#include "absl/strings/str_cat.h"
#include "core/wire/digest.h"

namespace latticed {

absl::Status OnFirst(ProcessGroup* group,
                     absl::FunctionRef<absl::Status()> work) {
  absl::Status done;
  std::string bytes;
  if (group->first()) {
    done = work();
    bytes = absl::StrCat(std::string(1, static_cast<char>(done.code())),
                         done.message());
  }
  if (absl::Status shared = group->Share(&bytes); !shared.ok()) {
    return done.ok() ? shared : done;
  }
  if (group->first()) return done;
  const auto code = static_cast<absl::StatusCode>(bytes[0]);
  if (code == absl::StatusCode::kOk) return absl::OkStatus();
  return absl::Status(code, absl::StrCat("process 0: ", bytes.substr(1)));
}

absl::Status ExpectAlike(
    ProcessGroup* group,
    const std::vector<std::pair<std::string, std::string>>& values) {
  if (group->alone()) return absl::OkStatus();
  std::string own;
  for (const auto& [what, value] : values) own += Sha256(value);
  std::string first = own;
  if (absl::Status shared = group->Share(&first); !shared.ok()) return shared;
  // Another program may even compare another number of things.
  if (first.size() != own.size()) first.assign(own.size(), '\0');
  std::vector<double> differs(group->size() * values.size());
  const size_t digest = own.size() / values.size();
  for (size_t i = 0; i < values.size(); ++i) {
    differs[group->rank() * values.size() + i] =
        own.compare(i * digest, digest, first, i * digest, digest) != 0;
  }
  if (absl::Status summed = group->SumUp(absl::MakeSpan(differs));
      !summed.ok()) {
    return summed;
  }
  for (size_t i = 0; i < differs.size(); ++i) {
    if (differs[i] == 0) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "process ", i / values.size(), " has another ",
        values[i % values.size()].first,
        " than process 0; start all processes of a training with the same "
        "program and command line"));
  }
  return absl::OkStatus();
}

}  // namespace latticed
