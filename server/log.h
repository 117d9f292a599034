// One line an event on stderr: time, level, what happened to which model. Never
// a line per sample or request. Thread-safe.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace latticed {

enum class LogLevel { kInfo, kWarning, kError };

void Log(LogLevel level, absl::string_view message);
// Lines of that level so far.
uint64_t LogLines(LogLevel level);

}  // namespace latticed
