// Token files: whatever is accepted reads the same when it is written again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/auth.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto principals = latticed::ParsePrincipals(text);
  if (!principals.ok()) return 0;
  if (principals->size() > latticed::kTokenFileLinesMax) std::abort();
  std::string again;
  for (const latticed::Principal& p : *principals) {
    absl::StrAppend(&again, p.name, " ", latticed::RoleName(p.role), " ",
                    absl::BytesToHexString(p.sha256));
    if (p.expires != absl::InfiniteFuture()) {
      absl::StrAppend(
          &again, " expires=",
          absl::FormatTime(absl::RFC3339_full, p.expires, absl::UTCTimeZone()));
    }
    again += "\n";
  }
  const auto reread = latticed::ParsePrincipals(again);
  if (!reread.ok() || reread->size() != principals->size()) std::abort();
  for (size_t i = 0; i < reread->size(); ++i) {
    const latticed::Principal& a = (*principals)[i];
    const latticed::Principal& b = (*reread)[i];
    if (a.name != b.name || a.role != b.role || a.sha256 != b.sha256 ||
        a.expires != b.expires) {
      std::abort();
    }
  }
  return 0;
}
