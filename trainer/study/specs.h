// The files of trainer/specs, compiled in, so that a study needs no path.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace latticed {

// Names are the files' without ".textproto".
std::vector<std::string> EmbeddedSpecNames();
bool HasEmbeddedSpec(absl::string_view name);
std::string EmbeddedSpec(absl::string_view name);  // requires HasEmbeddedSpec

}  // namespace latticed
