#include "trainer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace latticed {

int64_t TotalSteps(const v1::TrainingSpec& spec) {
  int64_t steps = 0;
  for (const auto& phase : spec.phase()) steps += phase.steps();
  return steps;
}

int64_t BatchAt(const v1::TrainingSpec& spec, int64_t step) {
  for (const auto& phase : spec.phase()) {
    if (step < phase.steps()) return phase.batch();
    step -= phase.steps();
  }
  return spec.phase().rbegin()->batch();
}

double LearningRateAt(const v1::TrainingSpec& spec, int64_t step) {
  const int64_t warmup = spec.warmup_steps();
  if (step < warmup) {
    return spec.learning_rate() * static_cast<double>(step + 1) /
           static_cast<double>(warmup);
  }
  const double progress =
      static_cast<double>(step - warmup) /
      static_cast<double>(std::max<int64_t>(1, TotalSteps(spec) - warmup));
  const double weight =
      0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, progress)));
  return spec.learning_rate_final() +
         weight * (spec.learning_rate() - spec.learning_rate_final());
}

double AdamStep(const v1::TrainingSpec& spec, absl::Span<const double> gradient,
                v1::TrainingState* state) {
  double square = 0;
  for (const double g : gradient) square += g * g;
  const double norm = std::sqrt(square);
  const int64_t step = state->step();
  state->set_step(step + 1);
  if (!std::isfinite(norm)) return norm;

  const double clip = step < spec.clip_warmup_steps() ? spec.clip_norm_warmup()
                                                      : spec.clip_norm();
  const double scale = norm > clip ? clip / norm : 1;
  const double rate = LearningRateAt(spec, step);
  const double count = static_cast<double>(step + 1);
  const double mean_correction = 1 - std::pow(spec.adam_beta1(), count);
  const double square_correction = 1 - std::pow(spec.adam_beta2(), count);
  // A young average forgets its start faster.
  const double decay = std::min(spec.ema_decay(), (1 + count) / (10 + count));
  float* weights = state->mutable_parameters()->mutable_data();
  float* average = state->mutable_average()->mutable_data();
  float* mean = state->mutable_adam_mean()->mutable_data();
  float* second = state->mutable_adam_square()->mutable_data();
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double g = scale * gradient[i];
    mean[i] = static_cast<float>(spec.adam_beta1() * mean[i] +
                                 (1 - spec.adam_beta1()) * g);
    second[i] = static_cast<float>(spec.adam_beta2() * second[i] +
                                   (1 - spec.adam_beta2()) * g * g);
    weights[i] -= static_cast<float>(rate * (mean[i] / mean_correction) /
                                     (std::sqrt(second[i] / square_correction) +
                                      spec.adam_epsilon() + 1e-12));
    average[i] =
        spec.ema_decay() > 0
            ? static_cast<float>(decay * average[i] + (1 - decay) * weights[i])
            : weights[i];
  }
  return norm;
}

}  // namespace latticed
