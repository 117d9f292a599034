// Progress on standard error: a bar on a terminal, a line now and then in a
// log.
#pragma once

#include <cstdint>
#include <string>

#include "client/stopwatch.h"

namespace latticed {

// Not thread-safe.
class Progress {
 public:
  enum class Style { kNone, kBar, kLines };
  // kNone if quiet, kBar if standard error is a terminal.
  static Style ChooseStyle(bool quiet);

  Progress(std::string label, std::string unit, uint64_t total, Style style);
  ~Progress();

  void Update(uint64_t done);
  // For work of unknown length: `line` in place of a bar, or every two seconds
  // in a log.
  void Show(const std::string& line);
  // A line of its own, whatever the style but kNone.
  void Note(const std::string& line);
  // Removes the bar; further updates are not shown.
  void Finish();

  double seconds() const;

 private:
  void Draw();

  const std::string label_;
  const std::string unit_;
  const uint64_t total_;
  Style style_;
  const Stopwatch start_;
  Stopwatch since_shown_;
  uint64_t done_ = 0;
  bool on_screen_ = false;
};

}  // namespace latticed
