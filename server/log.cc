#include "server/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace latticed {

namespace {

std::atomic<uint64_t> lines[3];

}  // namespace

uint64_t LogLines(LogLevel level) {
  return lines[static_cast<size_t>(level)].load();
}

void Log(LogLevel level, absl::string_view message) {
  const char* name = level == LogLevel::kInfo      ? "info"
                     : level == LogLevel::kWarning ? "warning"
                                                   : "error";
  // A message may quote file contents: it stays one line.
  const std::string line = absl::StrCat(
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ ", absl::Now(),
                       absl::UTCTimeZone()),
      name, " ", absl::StrReplaceAll(message, {{"\n", " "}, {"\r", " "}}),
      "\n");
  ++lines[static_cast<size_t>(level)];
  // One write, so that lines of several threads do not mix.
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

}  // namespace latticed
