#include "trainer/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_format.h"

namespace latticed {

std::string DurationName(double seconds) {
  const int64_t s = std::llround(std::max(0.0, seconds));
  if (s >= 3600) return absl::StrFormat("%dh%02dm", s / 3600, s / 60 % 60);
  if (s >= 60) return absl::StrFormat("%dm%02ds", s / 60, s % 60);
  return absl::StrFormat("%ds", s);
}

Progress::Progress(bool quiet)
    : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::Report(const ProgressReport& report) {
  if (quiet_) return;
  const std::string figures = absl::StrFormat(
      "step %d/%d batch %d ess %.4f sigma2/site %.3e loss %.4f grad %.3g "
      "rate %.2e draws/s %.0f left %s%s",
      report.step, report.steps, report.batch, report.ess,
      report.sigma2_per_site, report.loss, report.gradient_norm,
      report.learning_rate, report.draws_per_second,
      DurationName(report.seconds_left),
      report.non_finite > 0
          ? absl::StrFormat(" non-finite %d", report.non_finite)
          : "");
  if (!terminal_) {
    absl::FPrintF(stderr, "%s\n", figures);
    return;
  }
  constexpr int kWidth = 20;
  const int filled = static_cast<int>(kWidth * report.step / report.steps);
  absl::FPrintF(stderr, "\r\x1b[K[%s%s] %s", std::string(filled, '#'),
                std::string(kWidth - filled, '.'), figures);
  std::fflush(stderr);
  bar_open_ = true;
}

void Progress::Say(const std::string& line) {
  if (quiet_) return;
  absl::FPrintF(stderr, "%s%s\n", bar_open_ ? "\n" : "", line);
  bar_open_ = false;
}

}  // namespace latticed
