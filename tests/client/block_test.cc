#include "client/block.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr BlockShape kTwoSites{.sites = 2};

// Two draws of two sites; the draw between them was not finite.
v1::SampleBlock ThreeDraws() {
  v1::SampleBlock block;
  const std::vector<double> log_q = {0.5, 1.5};
  const std::vector<double> action = {2, 3};
  const std::vector<float> phi = {1, 2, 3, 4};
  block.set_first_index(10);
  block.set_count(3);
  block.add_non_finite(1);
  block.set_log_q(std::string(BytesOf(log_q)));
  block.set_action(std::string(BytesOf(action)));
  block.set_phi(std::string(BytesOf(phi)));
  block.set_crc32c(BlockCrc32c(block.log_q(), block.action(), block.phi()));
  return block;
}

// Five steps, thinned by two, from step 3 on: steps 4 and 6 are kept, both the
// same configuration.
v1::ChainBlock FiveSteps() {
  v1::ChainBlock block;
  const std::vector<double> log_q = {0.5};
  const std::vector<double> action = {2};
  const std::vector<float> phi = {1, 2};
  block.set_first_step(3);
  block.set_steps(5);
  block.set_accepted(2);
  block.set_accept(std::string(1, 0b10010));
  block.add_index(4);
  block.add_row(0);
  block.add_row(0);
  block.set_token("t");
  block.set_log_q(std::string(BytesOf(log_q)));
  block.set_action(std::string(BytesOf(action)));
  block.set_phi(std::string(BytesOf(phi)));
  block.set_crc32c(BlockCrc32c(block.log_q(), block.action(), block.phi()));
  return block;
}

TEST(SampleBlock, DecodesPayloadAndLeavesOutWhatIsNotFinite) {
  DrawBlock draws;
  ASSERT_THAT(Decode(ThreeDraws(), kTwoSites, &draws), IsOk());
  EXPECT_EQ(draws.first_index, 10u);
  EXPECT_EQ(draws.count, 3u);
  EXPECT_EQ(draws.size(), 2u);
  EXPECT_THAT(draws.non_finite, ElementsAre(1));
  EXPECT_THAT(draws.phi, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(draws.log_q, ElementsAre(0.5, 1.5));
  EXPECT_THAT(draws.action, ElementsAre(2, 3));
}

TEST(SampleBlock, AnyFlippedBitIsDataLoss) {
  DrawBlock draws;
  for (int byte = 0; byte < 16; ++byte) {
    v1::SampleBlock block = ThreeDraws();
    (*block.mutable_phi())[byte] ^= 0x10;
    EXPECT_THAT(Decode(block, kTwoSites, &draws),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("CRC32C")));
  }
}

TEST(SampleBlock, SizesThatContradictEachOtherAreInternal) {
  DrawBlock draws;
  v1::SampleBlock block = ThreeDraws();
  block.set_count(4);
  EXPECT_THAT(Decode(block, kTwoSites, &draws),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("log_q has 16")));
  EXPECT_THAT(Decode(ThreeDraws(), BlockShape{.sites = 3}, &draws),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("phi has 16")));
  block = ThreeDraws();
  block.set_non_finite(0, 3);
  EXPECT_THAT(Decode(block, kTwoSites, &draws),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("non_finite")));
}

TEST(SampleBlock, ContentThatWasLeftOutIsEmpty) {
  google::protobuf::RepeatedField<int> content;
  content.Add(v1::CONTENT_LOG_Q);
  v1::Lattice lattice;
  lattice.add_extent(1);
  lattice.add_extent(2);
  const BlockShape shape = MakeShape(lattice, content);
  EXPECT_EQ(shape.sites, 2u);
  v1::SampleBlock block = ThreeDraws();
  DrawBlock draws;
  EXPECT_THAT(Decode(block, shape, &draws),
              StatusIs(absl::StatusCode::kInternal));
  block.clear_phi();
  block.clear_action();
  block.set_crc32c(BlockCrc32c(block.log_q(), "", ""));
  ASSERT_THAT(Decode(block, shape, &draws), IsOk());
  EXPECT_THAT(draws.log_q, ElementsAre(0.5, 1.5));
  EXPECT_TRUE(draws.phi.empty());
}

TEST(ChainBlock, DecodesStepsRowsAndAcceptBits) {
  StepBlock steps;
  ASSERT_THAT(Decode(FiveSteps(), kTwoSites, /*thinning=*/2, &steps), IsOk());
  EXPECT_THAT(steps.accept, ElementsAre(0, 1, 0, 0, 1));
  EXPECT_THAT(steps.kept_step, ElementsAre(4, 6));
  EXPECT_THAT(steps.row, ElementsAre(0, 0));
  EXPECT_THAT(steps.index, ElementsAre(4));
  EXPECT_EQ(steps.token, "t");
}

// Steps 3 to 5 were proposals that are not finite: nothing is kept before 6.
TEST(ChainBlock, AChainKeepsNothingBeforeItsFirstAcceptedStep) {
  StepBlock steps;
  v1::ChainBlock block = FiveSteps();
  block.set_accept(std::string(1, 0b11000));
  block.mutable_row()->RemoveLast();
  ASSERT_THAT(Decode(block, kTwoSites, /*thinning=*/2, &steps), IsOk());
  EXPECT_THAT(steps.kept_step, ElementsAre(6));
  // Step 4 was accepted, so its configuration is missing.
  block.set_accept(std::string(1, 0b10010));
  EXPECT_THAT(Decode(block, kTwoSites, /*thinning=*/2, &steps),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("keeps 2")));
}

TEST(ChainBlock, ContradictionsAreInternal) {
  StepBlock steps;
  v1::ChainBlock block = FiveSteps();
  block.set_accepted(3);
  EXPECT_THAT(Decode(block, kTwoSites, 2, &steps),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("accept bits")));
  EXPECT_THAT(Decode(FiveSteps(), kTwoSites, 1, &steps),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("keeps 5")));
  block = FiveSteps();
  block.set_row(1, 1);
  EXPECT_THAT(Decode(block, kTwoSites, 2, &steps),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("row 1 of 1")));
  block = FiveSteps();
  block.set_accept("");
  EXPECT_THAT(Decode(block, kTwoSites, 2, &steps),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("accept has 0")));
}

}  // namespace
}  // namespace latticed
