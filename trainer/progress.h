// What a training says while it runs: a bar on a terminal, plain lines in a
// log.
#pragma once

#include <cstdint>
#include <string>

namespace latticed {

struct ProgressReport {
  int64_t step = 0;
  int64_t steps = 0;
  int64_t batch = 0;
  double ess = 0;              // of the draws since the last report
  double sigma2_per_site = 0;  // "
  double loss = 0;             // mean of log q + S over them
  double gradient_norm = 0;    // before clipping, of the last step
  double learning_rate = 0;
  double draws_per_second = 0;
  double seconds_left = 0;
  int64_t non_finite = 0;  // draws since the start of the process
};

class Progress {
 public:
  // Bars need a terminal on standard error; `quiet` prints nothing.
  explicit Progress(bool quiet);
  virtual ~Progress() = default;
  virtual void Report(const ProgressReport& report);
  // A line of its own: publications, warnings.
  virtual void Say(const std::string& line);

 private:
  bool quiet_;
  bool terminal_;
  bool bar_open_ = false;
};

// "1h02m", "3m20s", "12s".
std::string DurationName(double seconds);

}  // namespace latticed
