#include "client/cli/progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "client/cli/format.h"

namespace latticed {
namespace {

constexpr int kBarWidth = 24;
constexpr absl::Duration kBarEvery = absl::Milliseconds(100);
constexpr absl::Duration kLineEvery = absl::Seconds(10);
constexpr absl::Duration kShownEvery = absl::Seconds(2);

}  // namespace

Progress::Style Progress::ChooseStyle(bool quiet) {
  if (quiet) return Style::kNone;
  return isatty(STDERR_FILENO) ? Style::kBar : Style::kLines;
}

Progress::Progress(std::string label, std::string unit, uint64_t total,
                   Style style)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      style_(style) {}

Progress::~Progress() { Finish(); }

double Progress::seconds() const {
  return absl::ToDoubleSeconds(start_.Elapsed());
}

void Progress::Update(uint64_t done) {
  done_ = done;
  if (style_ == Style::kNone) return;
  if (since_shown_.Elapsed() <
      (style_ == Style::kBar ? kBarEvery : kLineEvery)) {
    return;
  }
  since_shown_ = Stopwatch();
  Draw();
}

void Progress::Draw() {
  const double elapsed = seconds();
  const double rate = elapsed > 0 ? done_ / elapsed : 0;
  const double share = total_ > 0 ? static_cast<double>(done_) / total_ : 1;
  const std::string figures = absl::StrCat(
      done_, "/", total_, " ", unit_, "  ", FormatRate(rate), "/s  ",
      rate > 0 ? FormatSeconds((total_ - done_) / rate) : "?", " left");
  if (style_ == Style::kBar) {
    const int filled = static_cast<int>(share * kBarWidth);
    std::string bar(filled, '#');
    bar.resize(kBarWidth, '.');
    std::fprintf(stderr, "\r\033[K%s [%s] %3.0f%%  %s", label_.c_str(),
                 bar.c_str(), 100 * share, figures.c_str());
    std::fflush(stderr);
    on_screen_ = true;
  } else {
    std::fprintf(stderr, "%s %3.0f%%  %s\n", label_.c_str(), 100 * share,
                 figures.c_str());
  }
}

void Progress::Show(const std::string& line) {
  if (style_ == Style::kNone) return;
  if (since_shown_.Elapsed() <
      (style_ == Style::kBar ? kBarEvery : kShownEvery)) {
    return;
  }
  since_shown_ = Stopwatch();
  if (style_ == Style::kBar) {
    std::fprintf(stderr, "\r\033[K%s  %s", label_.c_str(), line.c_str());
    std::fflush(stderr);
    on_screen_ = true;
  } else {
    std::fprintf(stderr, "%s  %s\n", label_.c_str(), line.c_str());
  }
}

void Progress::Note(const std::string& line) {
  if (style_ == Style::kNone) return;
  std::fprintf(stderr, "%s%s\n", on_screen_ ? "\r\033[K" : "", line.c_str());
  on_screen_ = false;
}

void Progress::Finish() {
  if (on_screen_) {
    std::fprintf(stderr, "\r\033[K");
    std::fflush(stderr);
  }
  on_screen_ = false;
  style_ = Style::kNone;
}

}  // namespace latticed
