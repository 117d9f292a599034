// The files of trainer/specs, compiled in, so that a study needs no path.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace latticed {

// `name` is the file's without ".textproto".
bool HasEmbeddedSpec(absl::string_view name);
std::string EmbeddedSpec(absl::string_view name);  // requires HasEmbeddedSpec

}  // namespace latticed
