// Training end to end at L = 4: gradients, resumption, publication.
#include "trainer/train.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/repository.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "tests/support/statistics.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/trainer/small_training.h"
#include "trainer/evaluate.h"
#include "trainer/path_gradient.h"
#include "trainer/state_file.h"

namespace latticed {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Stops the run after a given step, remembers what was said.
class StoppingProgress final : public Progress {
 public:
  StoppingProgress() : Progress(/*quiet=*/true) {}
  void Report(const ProgressReport& report) override {
    last = report;
    if (report.step == stop_at) stop.store(true);
  }
  void Say(const std::string& line) override { lines.push_back(line); }

  int64_t stop_at = -1;
  std::atomic<bool> stop{false};
  ProgressReport last;
  std::vector<std::string> lines;
};

class TrainTest : public testing::Test {
 protected:
  TrainTest() {
    options_.repository = directory_.path();
    options_.model = "toy";
    options_.command = "the command";
  }

  absl::StatusOr<TrainOutcome> Run(const v1::TrainingSpec& spec,
                                   StoppingProgress* progress) {
    auto metrics = TrainerMetrics::Create("", options_.model);
    EXPECT_THAT(metrics, IsOk());
    return Train(options_, spec, progress, metrics->get(), progress->stop);
  }
  absl::StatusOr<TrainOutcome> Run(const v1::TrainingSpec& spec) {
    StoppingProgress progress;
    return Run(spec, &progress);
  }
  v1::TrainingState State() {
    const auto state =
        ReadTrainingState(directory_.File(".training/toy.state"));
    EXPECT_THAT(state, IsOk());
    return *state;
  }
  std::vector<int64_t> Versions() {
    return ListVersions(options_.repository, "toy")
        .value_or(std::vector<int64_t>());
  }

  TemporaryDirectory directory_;
  TrainOptions options_;
};

// Gaussian flow, free-field action: with kappa_k the constant Khat_00(k), the
// loss is sum_k [(khat^2 + m^2) e^{2 kappa_k} - kappa_k] + const, so that its
// gradient, summed over nodes, is known for every orbit; at the optimum every
// single path gradient vanishes.
TEST(PathGradient, IsExactForTheFreeField) {
  const Lattice lattice{4, 4};
  const double mass_squared = 0.64;
  const EquivariantShape shape = MakeEquivariantShape(lattice, 2, 2, 3, 12);
  const Phi4 action(lattice, {.mass_squared = mass_squared, .lambda = 0});
  PathGradient path_gradient(shape, action);
  const MomentumOrbits orbits(lattice);

  const auto orbit_gradient = [&](const LossGradientResult& result,
                                  int64_t orbit) {
    double sum = 0;
    for (int64_t t = 0; t < shape.nodes; ++t) {
      sum += result.gradient[t * shape.gates * shape.Features() * shape.orbits +
                             orbit];
    }
    return sum;
  };
  const auto at_optimum = path_gradient.Compute(FreeFieldStart(shape, 0.8, 1.0),
                                                NamedStream("optimum"), 0, 32);
  for (int64_t o = 0; o < shape.orbits; ++o) {
    EXPECT_NEAR(orbit_gradient(at_optimum, o), 0, 1e-3);
  }

  constexpr double kZ = 0.8;
  constexpr int kBatches = 50;
  std::vector<double> sum(shape.orbits), squares(shape.orbits);
  for (int i = 0; i < kBatches; ++i) {
    const auto result = path_gradient.Compute(
        FreeFieldStart(shape, 0.8, kZ), NamedStream("off optimum"), 32 * i, 32);
    for (int64_t o = 0; o < shape.orbits; ++o) {
      const double g = orbit_gradient(result, o);
      sum[o] += g;
      squares[o] += g * g;
    }
  }
  // Batches are independent: error = standard deviation / sqrt(batches).
  for (int64_t o = 0; o < shape.orbits; ++o) {
    // (khat^2 + m^2) e^{2 kappa} = Z_0 / 2 for every mode.
    const double expected = orbits.size[o] * (kZ - 1);
    const double mean = sum[o] / kBatches;
    const double error =
        std::sqrt((squares[o] / kBatches - mean * mean) / (kBatches - 1));
    EXPECT_THAT(mean, IsWithinErrors(expected, error)) << o;
  }
}

TEST_F(TrainTest, ImprovesTheFlowAndPublishesIt) {
  const v1::TrainingSpec spec = SmallTraining();
  const auto start = StartState(options_, spec);
  ASSERT_THAT(start, IsOk());
  const auto before = Evaluate(
      spec.model(),
      ParametersToWeights(MakeLayout(spec.model()),
                          absl::MakeConstSpan(start->parameters().data(),
                                              start->parameters_size())),
      2048, "held-out/toy");
  ASSERT_THAT(before, IsOk());

  const auto outcome = Run(spec);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(*outcome, TrainOutcome::kFinished);
  ASSERT_THAT(Versions(), ElementsAre(1));
  const auto checkpoint = ReadVersion(options_.repository, "toy", 1);
  ASSERT_THAT(checkpoint, IsOk());
  const v1::Manifest& manifest = checkpoint->manifest;
  EXPECT_LT(manifest.quality().sigma2_per_site(),
            0.2 * before->quality.sigma2_per_site());
  EXPECT_GT(manifest.quality().ess(), 0.9);
  EXPECT_GT(manifest.quality().step_doubling_rms(), 0);
  EXPECT_EQ(manifest.training().step(), 60);
  EXPECT_EQ(manifest.training().draws(), 30 * 32 + 30 * 64);
  EXPECT_EQ(manifest.training().command(), "the command");

  // What is published is what was measured, and measures the same again.
  const auto again =
      Evaluate(manifest.spec(), checkpoint->weights, 2048, "held-out/toy");
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->quality.ess(), manifest.quality().ess());
  EXPECT_EQ(again->log_w_mean, manifest.log_weight_reference());
}

// Two Runge-Kutta steps leave an error that the gradient finds, four do not: of
// 18 trainings of other seeds and rates 12 found it, and none of 18. It is
// looked for with five seeds, since another processor rounds otherwise and a
// training does not come to the same end.
TEST_F(TrainTest, SaysThatTheLossIsBelowItsLeastValueAndPublishesThen) {
  const auto train = [&](uint32_t rk4_steps, uint64_t seed) {
    v1::TrainingSpec spec = SmallTraining();
    spec.mutable_model()->mutable_flow()->mutable_equivariant()->set_rk4_steps(
        rk4_steps);
    spec.clear_phase();
    spec.add_phase()->set_steps(600);
    spec.mutable_phase(0)->set_batch(128);
    spec.set_seed(seed);
    spec.set_learning_rate(0.05);
    spec.set_learning_rate_final(0.05);
    spec.set_log_every_steps(20);
    options_.model = absl::StrCat("steps", rk4_steps, "-", seed);
    StoppingProgress progress;
    EXPECT_THAT(Run(spec, &progress), IsOk());
    const auto said = std::count_if(
        progress.lines.begin(), progress.lines.end(),
        [](const std::string& line) {
          return line.find("is below its least value") != std::string::npos &&
                 line.find("step 600:") != 0;  // too late to publish
        });
    const auto first = ReadVersion(options_.repository, options_.model, 1);
    EXPECT_THAT(first, IsOk());
    EXPECT_EQ(first->manifest.training().step() < 600, said > 0);
    return said;
  };
  int64_t said = 0;
  for (uint64_t seed = 6; seed > 1 && said == 0; --seed) said = train(2, seed);
  EXPECT_EQ(said, 1);
  EXPECT_EQ(train(4, 6), 0);
}

TEST_F(TrainTest, SaysThatTheGateWillRejectWhatItPublished) {
  v1::TrainingSpec spec = SmallTraining();
  spec.mutable_phase()->DeleteSubrange(1, 1);
  spec.mutable_phase(0)->set_steps(5);
  for (const double floor : {0.0, 1.0}) {
    spec.mutable_model()->set_ess_floor(floor);
    options_.model = floor > 0 ? "strict" : "lenient";
    StoppingProgress progress;
    ASSERT_THAT(Run(spec, &progress), IsOk());
    const auto below =
        testing::Contains(HasSubstr("below the spec's ess_floor, 1"));
    if (floor > 0) {
      EXPECT_THAT(progress.lines, below);
    } else {
      EXPECT_THAT(progress.lines, testing::Not(below));
    }
  }
}

TEST_F(TrainTest, ResumesToTheSameBits) {
  const v1::TrainingSpec spec = SmallTraining();
  ASSERT_THAT(Run(spec), IsOk());
  const v1::TrainingState whole = State();

  options_.restart = true;
  for (const int64_t stop_at : {11, 40, -1}) {
    StoppingProgress progress;
    progress.stop_at = stop_at;
    const auto outcome = Run(spec, &progress);
    ASSERT_THAT(outcome, IsOk());
    EXPECT_EQ(*outcome, stop_at > 0 ? TrainOutcome::kInterrupted
                                    : TrainOutcome::kFinished);
    if (stop_at > 0) {
      EXPECT_EQ(State().step(), stop_at);
    }
    options_.restart = false;
  }
  v1::TrainingState pieces = State();
  pieces.set_seconds(whole.seconds());
  pieces.set_core_seconds(whole.core_seconds());
  EXPECT_EQ(pieces.SerializeAsString(), whole.SerializeAsString());
  EXPECT_EQ(whole.draws(), 30u * 32 + 30 * 64);
}

TEST_F(TrainTest, InterruptedRunPublishesNothingAndLeavesNoLitter) {
  StoppingProgress progress;
  progress.stop_at = 13;
  ASSERT_THAT(Run(SmallTraining(), &progress), IsOk());
  EXPECT_TRUE(Versions().empty());
  EXPECT_THAT(directory_.List(), ElementsAre(".training"));
}

TEST_F(TrainTest, PublishesOnlyWhatIsBetter) {
  ASSERT_THAT(Run(SmallTraining()), IsOk());
  v1::TrainingSpec worse = SmallTraining();
  worse.mutable_phase(0)->set_steps(2);
  worse.mutable_phase(1)->set_steps(1);
  worse.set_warmup_steps(1);
  worse.set_clip_warmup_steps(1);
  options_.restart = true;
  StoppingProgress progress;
  ASSERT_THAT(Run(worse, &progress), IsOk());
  EXPECT_THAT(Versions(), ElementsAre(1));
  EXPECT_THAT(progress.lines.back(), HasSubstr("not better than version 1"));
}

TEST_F(TrainTest, StartsFromAPublishedModelOfAnotherLattice) {
  ASSERT_THAT(Run(SmallTraining()), IsOk());
  v1::TrainingSpec larger = SmallTraining();
  larger.mutable_model()->mutable_lattice()->set_extent(0, 6);
  larger.mutable_model()->mutable_lattice()->set_extent(1, 6);
  larger.mutable_from_model()->set_model("toy");
  options_.model = "larger";
  const auto start = StartState(options_, larger);
  ASSERT_THAT(start, IsOk());
  const auto checkpoint = ReadVersion(options_.repository, "toy", 1);
  EXPECT_EQ(start->started_from(), checkpoint->digest);
  EXPECT_EQ(start->parameters_size(),
            MakeShape(larger.model()).ParameterCount());

  larger.mutable_from_model()->set_model("nobody");
  EXPECT_THAT(StartState(options_, larger),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nobody")));
  larger.mutable_from_model()->set_model("toy");
  larger.mutable_model()->mutable_flow()->mutable_equivariant()->set_gates(1);
  EXPECT_THAT(
      StartState(options_, larger),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("from_model")));
}

TEST_F(TrainTest, RefusesAnotherRunsOrADamagedState) {
  StoppingProgress progress;
  progress.stop_at = 3;
  ASSERT_THAT(Run(SmallTraining(), &progress), IsOk());
  v1::TrainingSpec other = SmallTraining();
  other.set_seed(4);
  EXPECT_THAT(Run(other), StatusIs(absl::StatusCode::kFailedPrecondition,
                                   HasSubstr("--restart")));
  {
    std::fstream file(directory_.File(".training/toy.state"),
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(100);
    file.put('x');
  }
  EXPECT_THAT(Run(SmallTraining()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged")));
  EXPECT_TRUE(Versions().empty());
}

TEST_F(TrainTest, DoesNotStartOverWhenItsStateCannotBeRead) {
  StoppingProgress progress;
  progress.stop_at = 3;
  ASSERT_THAT(Run(SmallTraining(), &progress), IsOk());
  const std::string path = directory_.File(".training/toy.state");
  std::filesystem::rename(path, path + ".kept");
  std::filesystem::create_symlink(path, path);  // leads round in a circle
  EXPECT_THAT(Run(SmallTraining()), StatusIs(absl::StatusCode::kUnknown,
                                             HasSubstr("cannot be read")));
  std::filesystem::rename(path + ".kept", path);
  EXPECT_THAT(Run(SmallTraining()), IsOk());
}

TEST_F(TrainTest, NamesTheFieldOfABadSpec) {
  v1::TrainingSpec spec = SmallTraining();
  spec.set_learning_rate(0);
  EXPECT_THAT(Run(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                  HasSubstr("learning_rate")));
  spec = SmallTraining();
  spec.clear_start();
  EXPECT_THAT(Run(spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("start")));
}

TEST_F(TrainTest, SaysWhenTheStateDirectoryCannotBeWritten) {
  options_.state_directory = directory_.File("file/state");
  std::ofstream(directory_.File("file")) << "not a directory";
  EXPECT_THAT(
      Run(SmallTraining()),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("file/state")));
}

}  // namespace
}  // namespace latticed
