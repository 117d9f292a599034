#include "client/cli/format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace latticed {

ValueAndError Format(const Estimate& estimate) {
  if (!std::isfinite(estimate.error) || estimate.error <= 0 ||
      !std::isfinite(estimate.value)) {
    return {absl::StrFormat("%.6g", estimate.value),
            absl::StrFormat("%.2g", estimate.error)};
  }
  const int decimals = std::clamp(
      1 - static_cast<int>(std::floor(std::log10(estimate.error))), 0, 15);
  return {absl::StrFormat("%.*f", decimals, estimate.value),
          absl::StrFormat("%.*f", decimals, estimate.error)};
}

std::string FormatRate(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0) return "-";
  if (per_second < 100) return absl::StrFormat("%.3g", per_second);
  std::string digits = absl::StrFormat("%.0f", per_second);
  for (int i = static_cast<int>(digits.size()) - 3; i > 0; i -= 3) {
    digits.insert(i, 1, ' ');
  }
  return digits;
}

std::string FormatSeconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  if (seconds < 10) return absl::StrFormat("%.2f s", seconds);
  if (seconds < 60) return absl::StrFormat("%.1f s", seconds);
  const int64_t whole = std::llround(seconds);
  if (whole < 3600) {
    return absl::StrFormat("%d min %02d s", whole / 60, whole % 60);
  }
  return absl::StrFormat("%d h %02d min", whole / 3600, whole / 60 % 60);
}

std::string FormatLattice(const v1::Lattice& lattice) {
  return absl::StrJoin(lattice.extent(), "x");
}

std::string FormatAction(const v1::Action& action) {
  if (action.has_free_field()) {
    return absl::StrFormat("free m2=%g", action.free_field().mass_squared());
  }
  const v1::Phi4& phi4 = action.phi4();
  if (phi4.has_latticed()) {
    return absl::StrFormat("phi4 m2=%g lambda=%g",
                           phi4.latticed().mass_squared(),
                           phi4.latticed().lambda());
  }
  // Other conventions as their spec has them: converting is the server's.
  return absl::StrCat("{ ", action.ShortDebugString(), " }");
}

std::string Hex(absl::string_view bytes) {
  return absl::BytesToHexString(bytes);
}

std::string FormatProvenance(const v1::Provenance& provenance) {
  return absl::StrCat(provenance.model(), " version ", provenance.version(),
                      " (digest ", provenance.digest().substr(0, 12),
                      "), stream ", Hex(provenance.stream_id()));
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows,
                        const std::vector<size_t>& right) {
  std::vector<size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) {
      width[i] = std::max(width[i], row[i].size());
    }
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(width[i] - row[i].size(), ' ');
      const bool to_right =
          std::find(right.begin(), right.end(), i) != right.end();
      absl::StrAppend(&line, i == 0 ? "" : "  ", to_right ? padding : "",
                      row[i], to_right ? "" : padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace latticed
