#include "trainer/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace latticed {
namespace {

v1::TrainingSpec Spec() {
  v1::TrainingSpec spec;
  for (const uint32_t batch : {32, 64}) {
    auto* phase = spec.add_phase();
    phase->set_steps(100);
    phase->set_batch(batch);
  }
  spec.set_learning_rate(0.1);
  spec.set_learning_rate_final(0.01);
  spec.set_warmup_steps(10);
  spec.set_adam_beta1(0.9);
  spec.set_adam_beta2(0.99);
  spec.set_clip_norm(1);
  spec.set_clip_norm_warmup(1);
  return spec;
}

v1::TrainingState State(int size) {
  v1::TrainingState state;
  for (auto* field : {state.mutable_parameters(), state.mutable_average(),
                      state.mutable_adam_mean(), state.mutable_adam_square()}) {
    field->Resize(size, 0.0f);
  }
  return state;
}

TEST(Schedule, WarmsUpThenFallsAsACosine) {
  const v1::TrainingSpec spec = Spec();
  EXPECT_EQ(TotalSteps(spec), 200);
  EXPECT_EQ(BatchAt(spec, 99), 32);
  EXPECT_EQ(BatchAt(spec, 100), 64);
  EXPECT_DOUBLE_EQ(LearningRateAt(spec, 0), 0.01);
  EXPECT_DOUBLE_EQ(LearningRateAt(spec, 9), 0.1);
  EXPECT_NEAR(LearningRateAt(spec, 105), (0.1 + 0.01) / 2, 1e-12);
  EXPECT_DOUBLE_EQ(LearningRateAt(spec, 200), 0.01);
}

// The first step moves every weight by the rate against the gradient's sign,
// whatever the gradient's size.
TEST(AdamStep, FirstStepIsTheRateTimesTheSign) {
  const v1::TrainingSpec spec = Spec();
  v1::TrainingState state = State(2);
  const std::vector<double> gradient = {3e-3, -4e-3};
  EXPECT_DOUBLE_EQ(AdamStep(spec, gradient, &state), 5e-3);
  EXPECT_NEAR(state.parameters(0), -0.01, 1e-6);
  EXPECT_NEAR(state.parameters(1), 0.01, 1e-6);
  EXPECT_EQ(state.step(), 1);
}

TEST(AdamStep, ClipsTheGradientsNorm) {
  const v1::TrainingSpec spec = Spec();
  v1::TrainingState state = State(2);
  EXPECT_DOUBLE_EQ(AdamStep(spec, std::vector<double>{30, 40}, &state), 50);
  EXPECT_NEAR(state.adam_mean(0), 0.1 * 0.6, 1e-6);
  EXPECT_NEAR(state.adam_square(1), 0.01 * 0.64, 1e-6);
}

TEST(AdamStep, EpsilonBoundsTheStepOfAVanishingGradient) {
  v1::TrainingSpec spec = Spec();
  spec.set_adam_epsilon(1e-3);
  v1::TrainingState state = State(1);
  AdamStep(spec, std::vector<double>{1e-6}, &state);
  EXPECT_NEAR(state.parameters(0), -0.01 * 1e-6 / 1e-3, 2e-8);
}

TEST(AdamStep, NonFiniteGradientChangesNoWeight) {
  const v1::TrainingSpec spec = Spec();
  v1::TrainingState state = State(1);
  const double norm = AdamStep(
      spec, std::vector<double>{std::numeric_limits<double>::quiet_NaN()},
      &state);
  EXPECT_TRUE(std::isnan(norm));
  EXPECT_EQ(state.parameters(0), 0);
  EXPECT_EQ(state.adam_mean(0), 0);
  EXPECT_EQ(state.step(), 1);
}

// A quadratic bowl: the minimum is found, the average follows.
TEST(AdamStep, FindsTheMinimumOfABowl) {
  v1::TrainingSpec spec = Spec();
  spec.set_ema_decay(0.9);
  spec.set_learning_rate_final(0);
  v1::TrainingState state = State(2);
  while (state.step() < TotalSteps(spec)) {
    AdamStep(spec,
             std::vector<double>{state.parameters(0) - 1.0,
                                 10 * (state.parameters(1) + 0.5)},
             &state);
  }
  EXPECT_NEAR(state.parameters(0), 1, 0.01);
  EXPECT_NEAR(state.parameters(1), -0.5, 0.01);
  EXPECT_NEAR(state.average(0), state.parameters(0), 0.01);
}

}  // namespace
}  // namespace latticed
