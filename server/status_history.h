// What counters said over the last hour, for the status page: every two seconds
// for five minutes, every twenty for the hour. Memory is bounded. Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "latticed/v1/status.pb.h"
#include "server/metrics.h"
#include "server/mutex.h"

namespace latticed {

class StatusHistory {
 public:
  static constexpr double kFineSeconds = 2;
  static constexpr double kCoarseSeconds = 20;
  static constexpr size_t kFineMax = 150;
  static constexpr size_t kCoarseMax = 180;
  static constexpr size_t kModelsMax = 64;  // the first ones by name
  // A point of ESS or acceptance is of at least so many draws: of fewer it says
  // more about chance than about the flow.
  static constexpr uint32_t kDrawsPerPoint = 1024;

  // Whether it is time to Add.
  bool Due(double seconds) const;
  // What the counters say at this time, on a clock that does not go back.
  void Add(double seconds, const std::map<std::string, ModelFigures>& models,
           double device_busy_seconds);

  // The four series of a model, with ages at `now`. Nothing in them is not
  // finite.
  void Fill(const std::string& model, double now,
            v1::StatusModel* status) const;
  v1::StatusSeries DeviceBusy(double now) const;

 private:
  template <typename T>
  struct Sample {
    double seconds;
    T value;
  };
  template <typename T>
  struct Ring {
    std::deque<Sample<T>> fine;
    std::deque<Sample<T>> coarse;

    void Add(double seconds, const T& value);
    // Coarse ones up to the first fine one, then those.
    std::deque<Sample<T>> All() const;
  };

  mutable Mutex mutex_;
  double last_ ABSL_GUARDED_BY(mutex_) = -1e300;
  std::map<std::string, Ring<ModelFigures>> models_ ABSL_GUARDED_BY(mutex_);
  Ring<double> device_busy_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace latticed
