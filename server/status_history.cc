#include "server/status_history.h"

#include <algorithm>
#include <cmath>

namespace latticed {
namespace {

// A tenth of a second and five digits are enough, and keep the page small.
void AddPoint(double age_seconds, double value, v1::StatusSeries* series,
              double draws = 0) {
  if (!std::isfinite(value)) return;
  series->add_age_seconds(
      static_cast<float>(std::round(10 * age_seconds) / 10));
  if (value != 0) {
    const double unit =
        std::pow(10, std::floor(std::log10(std::abs(value))) - 4);
    if (unit > 0) value = std::round(value / unit) * unit;
  }
  series->add_value(static_cast<float>(value));
  if (draws > 0) series->add_draws(static_cast<float>(draws));
}

}  // namespace

template <typename T>
void StatusHistory::Ring<T>::Add(double seconds, const T& value) {
  fine.push_back({seconds, value});
  if (fine.size() > kFineMax) fine.pop_front();
  if (coarse.empty() || seconds >= coarse.back().seconds + kCoarseSeconds) {
    coarse.push_back({seconds, value});
    if (coarse.size() > kCoarseMax) coarse.pop_front();
  }
}

template <typename T>
std::deque<StatusHistory::Sample<T>> StatusHistory::Ring<T>::All() const {
  std::deque<Sample<T>> all;
  for (const Sample<T>& sample : coarse) {
    if (sample.seconds < fine.front().seconds) all.push_back(sample);
  }
  all.insert(all.end(), fine.begin(), fine.end());
  return all;
}

bool StatusHistory::Due(double seconds) const {
  MutexLock lock(mutex_);
  return seconds >= last_ + kFineSeconds;
}

void StatusHistory::Add(double seconds,
                        const std::map<std::string, ModelFigures>& models,
                        double device_busy_seconds) {
  MutexLock lock(mutex_);
  last_ = seconds;
  device_busy_.Add(seconds, device_busy_seconds);
  for (const auto& [model, figures] : models) {
    if (models_.size() >= kModelsMax && models_.count(model) == 0) continue;
    models_[model].Add(seconds, figures);
  }
}

void StatusHistory::Fill(const std::string& model, double now,
                         v1::StatusModel* status) const {
  std::deque<Sample<ModelFigures>> samples;
  {
    MutexLock lock(mutex_);
    const auto it = models_.find(model);
    if (it == models_.end()) return;
    samples = it->second.All();
  }
  // Where the windows begin that have not enough draws yet.
  const ModelFigures* weights = &samples.front().value;
  const ModelFigures* steps = &samples.front().value;
  for (size_t i = 0; i < samples.size(); ++i) {
    const ModelFigures& figures = samples[i].value;
    const double age = now - samples[i].seconds;
    AddPoint(age, figures.queued, status->mutable_queue());
    if (i > 0) {
      AddPoint(age,
               (figures.draws - samples[i - 1].value.draws) /
                   (samples[i].seconds - samples[i - 1].seconds),
               status->mutable_draws_per_second());
    }
    // Sums are of one version. One that comes back goes on with its own, but
    // what was drawn in between is unknown.
    if (figures.live != weights->live || figures.samples < weights->samples) {
      weights = &figures;
    }
    if (figures.live != steps->live) steps = &figures;
    const double n = figures.samples - weights->samples;
    if (n >= kDrawsPerPoint) {
      const double sum = figures.sum_w - weights->sum_w;
      const double sum2 = figures.sum_w2 - weights->sum_w2;
      AddPoint(age, sum * sum / (n * sum2), status->mutable_ess_series(), n);
      weights = &figures;
    }
    const double proposals = figures.proposals - steps->proposals;
    if (proposals >= kDrawsPerPoint) {
      AddPoint(age, (figures.accepted - steps->accepted) / proposals,
               status->mutable_acceptance_series(), proposals);
      steps = &figures;
    }
  }
}

v1::StatusSeries StatusHistory::DeviceBusy(double now) const {
  v1::StatusSeries series;
  MutexLock lock(mutex_);
  if (device_busy_.fine.empty()) return series;
  const auto samples = device_busy_.All();
  for (size_t i = 1; i < samples.size(); ++i) {
    // A tile counts when it is done, also for time before the interval.
    AddPoint(now - samples[i].seconds,
             std::min(1.0, (samples[i].value - samples[i - 1].value) /
                               (samples[i].seconds - samples[i - 1].seconds)),
             &series);
  }
  return series;
}

}  // namespace latticed
