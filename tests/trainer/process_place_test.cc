#include "trainer/process_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using testing::HasSubstr;
using Environment = std::map<std::string, std::string>;

// What torchrun --nnodes 2 --nproc-per-node 2 sets for the third process.
Environment Torchrun() {
  return {{"RANK", "2"},
          {"WORLD_SIZE", "4"},
          {"LOCAL_RANK", "0"},
          {"LOCAL_WORLD_SIZE", "2"},
          {"MASTER_ADDR", "node1"},
          {"MASTER_PORT", "29500"},
          {"TORCHELASTIC_RESTART_COUNT", "1"},
          {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
}

// What srun -N 2 -n 4 sets, in a batch job of two nodes.
Environment Srun() {
  return {{"SLURM_JOB_ID", "1234"},      {"SLURM_STEP_ID", "2"},
          {"SLURM_PROCID", "3"},         {"SLURM_LOCALID", "1"},
          {"SLURM_NTASKS", "4"},         {"SLURM_STEP_NUM_TASKS", "4"},
          {"SLURM_STEP_NUM_NODES", "2"}, {"SLURM_STEP_NODELIST", "n[07-08]"}};
}

TEST(ProcessPlace, IsAloneWithoutALauncher) {
  const auto place = PlaceOf({}, "auto", 0);
  ASSERT_THAT(place, IsOk());
  EXPECT_EQ(place->size, 1);
  EXPECT_EQ(place->rank, 0);
}

TEST(ProcessPlace, IsThatOfTorchrun) {
  const auto place = PlaceOf(Torchrun(), "auto", 0);
  ASSERT_THAT(place, IsOk());
  EXPECT_EQ(place->rank, 2);
  EXPECT_EQ(place->size, 4);
  EXPECT_EQ(place->local_rank, 0);
  EXPECT_EQ(place->host, "node1");
  EXPECT_EQ(place->port, 29500);
  EXPECT_TRUE(place->store_is_given);
  EXPECT_EQ(place->attempt, "1");
  EXPECT_FALSE(place->one_machine);

  // Another port than the agent's has no store yet.
  const auto moved = PlaceOf(Torchrun(), "auto", 1234);
  ASSERT_THAT(moved, IsOk());
  EXPECT_EQ(moved->port, 1234);
  EXPECT_FALSE(moved->store_is_given);
}

TEST(ProcessPlace, KnowsWhenAllAreOnOneMachine) {
  Environment environment = Torchrun();
  environment["LOCAL_WORLD_SIZE"] = "4";
  EXPECT_TRUE(PlaceOf(environment, "auto", 0)->one_machine);
  environment = Torchrun();
  for (const char* host : {"127.0.0.1", "localhost", "::1"}) {
    environment["MASTER_ADDR"] = host;
    EXPECT_TRUE(PlaceOf(environment, "auto", 0)->one_machine) << host;
  }
  environment = Srun();
  environment["SLURM_STEP_NUM_NODES"] = "1";
  const auto place = PlaceOf(environment, "auto", 0);
  ASSERT_THAT(place, IsOk());
  EXPECT_TRUE(place->one_machine);
  EXPECT_EQ(place->host, "127.0.0.1");
}

TEST(ProcessPlace, IsThatOfAStepOfSrun) {
  const auto place = PlaceOf(Srun(), "auto", 0);
  ASSERT_THAT(place, IsOk());
  EXPECT_EQ(place->rank, 3);
  EXPECT_EQ(place->size, 4);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->host, "n07");
  EXPECT_EQ(place->port, 10000 + (31 * 1234 + 2) % 20000);
  EXPECT_FALSE(place->store_is_given);
  EXPECT_FALSE(place->one_machine);

  Environment own = Srun();
  own["MASTER_ADDR"] = "login";
  own["MASTER_PORT"] = "4000";
  own["GLOO_SOCKET_IFNAME"] = "ib0";
  const auto chosen = PlaceOf(own, "auto", 0);
  ASSERT_THAT(chosen, IsOk());
  EXPECT_EQ(chosen->host, "login");
  EXPECT_EQ(chosen->port, 4000);
  EXPECT_EQ(chosen->interface, "ib0");
  EXPECT_EQ(PlaceOf(own, "auto", 5000)->port, 5000);
}

// A batch script is not a step; a step of one task is one process.
TEST(ProcessPlace, IsAloneInABatchScript) {
  Environment environment = Srun();
  environment.erase("SLURM_STEP_ID");
  environment.erase("SLURM_STEP_NUM_TASKS");
  environment.erase("SLURM_STEP_NUM_NODES");
  environment["SLURM_PROCID"] = "0";
  EXPECT_EQ(PlaceOf(environment, "auto", 0)->size, 1);
  environment = Srun();
  environment["SLURM_PROCID"] = "0";
  environment["SLURM_STEP_NUM_TASKS"] = "1";
  EXPECT_EQ(PlaceOf(environment, "auto", 0)->size, 1);
  // Whatever the environment says.
  EXPECT_EQ(PlaceOf(Srun(), "none", 0)->size, 1);
  EXPECT_EQ(PlaceOf(Torchrun(), "none", 0)->size, 1);
  environment = {{"RANK", "0"}, {"WORLD_SIZE", "1"}};
  EXPECT_EQ(PlaceOf(environment, "auto", 0)->size, 1);
}

// torchrun under srun: one torchrun a node.
TEST(ProcessPlace, TakesTorchrunBeforeSlurm) {
  Environment both = Srun();
  both.merge(Torchrun());
  EXPECT_EQ(PlaceOf(both, "auto", 0)->rank, 2);
  EXPECT_EQ(PlaceOf(both, "slurm", 0)->rank, 3);
}

struct Bad {
  std::string variable, value, said;  // an empty value: not set
};

class BadPlace : public testing::TestWithParam<Bad> {};

TEST_P(BadPlace, IsRefusedByName) {
  Environment environment = Torchrun();
  std::string launcher = "torchrun";
  if (GetParam().variable.rfind("SLURM", 0) == 0) {
    environment = Srun();
    launcher = "slurm";
  }
  environment[GetParam().variable] = GetParam().value;
  EXPECT_THAT(
      PlaceOf(environment, launcher, 0),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().said)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadPlace,
    testing::Values(Bad{"RANK", "", "RANK is not set"},
                    Bad{"RANK", "4", "not below"},
                    Bad{"RANK", "-1", "RANK='-1'"},
                    Bad{"RANK", "two", "RANK='two'"},
                    Bad{"WORLD_SIZE", "", "WORLD_SIZE is not set"},
                    Bad{"WORLD_SIZE", "0", "WORLD_SIZE='0'"},
                    Bad{"WORLD_SIZE", "100000", "WORLD_SIZE='100000'"},
                    Bad{"LOCAL_RANK", "9", "LOCAL_RANK='9'"},
                    Bad{"MASTER_ADDR", "", "MASTER_ADDR is not set"},
                    Bad{"MASTER_PORT", "", "MASTER_PORT is not set"},
                    Bad{"MASTER_PORT", "70000", "MASTER_PORT='70000'"},
                    Bad{"SLURM_PROCID", "", "SLURM_PROCID is not set"},
                    Bad{"SLURM_PROCID", "4", "not below"},
                    Bad{"SLURM_STEP_NODELIST", "", "SLURM_STEP_NODELIST"},
                    Bad{"SLURM_JOB_ID", "", "SLURM_JOB_ID is not set"}));

TEST(ProcessPlace, RefusesUnknownLaunchersAndPorts) {
  EXPECT_THAT(PlaceOf({}, "mpirun", 0),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--launcher=mpirun")));
  EXPECT_THAT(PlaceOf({}, "auto", 65536),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--rendezvous_port=65536")));
}

TEST(ProcessPlace, FirstHostOfANodeList) {
  EXPECT_EQ(FirstHost("n1"), "n1");
  EXPECT_EQ(FirstHost("a,b"), "a");
  EXPECT_EQ(FirstHost("n[01-03,7],m"), "n01");
  EXPECT_EQ(FirstHost("n[4,7]"), "n4");
  EXPECT_EQ(FirstHost("r[1-2]n[3-4].site"), "r1n3.site");
  EXPECT_EQ(FirstHost(""), "");
}

}  // namespace
}  // namespace latticed
