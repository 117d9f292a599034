// The references that `latticed-train reference` writes, and those it leaves.
#include "trainer/reference_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/checkpoint/repository.h"
#include "google/protobuf/text_format.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"

namespace latticed {
namespace {

using testing::AllOf;
using testing::HasSubstr;

v1::TrainingSpec Spec(double mass_squared) {
  v1::TrainingSpec spec;
  const bool parsed = google::protobuf::TextFormat::ParseFromString(
      R"pb(
        model {
          action { phi4 { latticed { lambda: 8 } } }
          lattice { extent: 4 extent: 4 }
          base { standard_normal {} }
          flow {
            equivariant { sine_features: 3 gates: 2 time_nodes: 3 rk4_steps: 6 }
          }
          dtype: DTYPE_FLOAT32
          tile: 32
          ess_floor: 0.1
        }
        seed: 3
        from_free_field { mass: 1 normalisation: 0.8 }
        phase { steps: 30 batch: 32 }
        learning_rate: 0.02
        adam_beta1: 0.9
        adam_beta2: 0.99
        adam_epsilon: 1e-3
        clip_norm: 1
        ema_decay: 0.9
        log_every_steps: 1
        checkpoint_every_steps: 7
        evaluation_draws: 2048
      )pb",
      &spec);
  EXPECT_TRUE(parsed);
  spec.mutable_model()
      ->mutable_action()
      ->mutable_phi4()
      ->mutable_latticed()
      ->set_mass_squared(mass_squared);
  return spec;
}

class ReferenceCommandTest : public testing::Test {
 protected:
  ReferenceCommandTest() {
    options_.repository = folder_.path();
    options_.model = "toy";
  }
  absl::Status Run(const ReferenceCommand& command, double mass_squared = -4) {
    Progress progress(/*quiet=*/true);
    return RunReferenceCommand(options_, Spec(mass_squared), command, &progress,
                               stop_);
  }
  uint64_t Updates() {
    const auto reference = ReadReference(folder_.path(), "toy");
    EXPECT_THAT(reference, IsOk());
    return reference.ok() ? reference->manifest.updates() : 0;
  }

  TemporaryDirectory folder_;
  TrainOptions options_;
  std::atomic<bool> stop_{false};
};

TEST_F(ReferenceCommandTest, TakesThePlaceOfTheOneThatIsThere) {
  ASSERT_THAT(Run({.updates = 2000, .configurations = 8}), IsOk());
  ASSERT_THAT(Run({.updates = 1000, .configurations = 4}), IsOk());
  const auto reference = ReadReference(folder_.path(), "toy");
  ASSERT_THAT(reference, IsOk());
  EXPECT_EQ(reference->manifest.updates(), 1000);
  EXPECT_EQ(reference->phi.size(), 4 * 16);
  EXPECT_GT(reference->manifest.observables().at("chi_2").error(), 0);
}

TEST_F(ReferenceCommandTest, IfMissingLeavesTheOneThatIsThere) {
  const ReferenceCommand if_missing = {
      .updates = 1000, .configurations = 4, .if_missing = true};
  ASSERT_THAT(Run(if_missing), IsOk());
  EXPECT_EQ(Updates(), 1000);
  ASSERT_THAT(Run({.updates = 2000, .configurations = 8}), IsOk());
  ASSERT_THAT(Run(if_missing), IsOk());
  EXPECT_EQ(Updates(), 2000);

  EXPECT_THAT(Run(if_missing, /*mass_squared=*/-3),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("another action or lattice"),
                             HasSubstr("--if_missing"))));
  EXPECT_EQ(Updates(), 2000);
}

TEST_F(ReferenceCommandTest, IfMissingDoesNotHideADamagedOne) {
  ASSERT_THAT(Run({.updates = 1000, .configurations = 4}), IsOk());
  const std::string path = folder_.path() + "/toy/reference/configurations.npy";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_THAT(Run({.updates = 1000, .configurations = 4, .if_missing = true}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("--if_missing")));
}

TEST_F(ReferenceCommandTest, WritesNothingOnceItIsStopped) {
  stop_ = true;
  EXPECT_THAT(Run({.updates = 1000}), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(ReadReference(folder_.path(), "toy"),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ReferenceCommandTest, NamesTheFlagThatIsWrong) {
  EXPECT_THAT(
      Run({.updates = 999}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--updates")));
  EXPECT_THAT(Run({.configurations = (1 << 20) + 1}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--configurations")));
}

}  // namespace
}  // namespace latticed
