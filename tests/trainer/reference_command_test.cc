// The references that `latticed-train reference` writes, and those it leaves.
#include "trainer/reference_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/checkpoint/repository.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/trainer/small_training.h"

namespace latticed {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ReferenceCommandTest : public testing::Test {
 protected:
  ReferenceCommandTest() {
    options_.repository = folder_.path();
    options_.model = "toy";
  }
  absl::Status Run(const ReferenceCommand& command, double mass_squared = -4) {
    v1::TrainingSpec spec = SmallTraining();
    spec.mutable_model()
        ->mutable_action()
        ->mutable_phi4()
        ->mutable_latticed()
        ->set_mass_squared(mass_squared);
    Progress progress(/*quiet=*/true);
    return RunReferenceCommand(options_, spec, command, &progress, stop_);
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
