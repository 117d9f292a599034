// Several chains in one call, through the client library and latticectl,
// against a server of the toy flow that is killed.
#include <fstream>
#include <map>
#include <sstream>

#include "client/client.h"
#include "core/wire/block.h"
#include "core/wire/npy_reader.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "tests/client/toy_process.h"

namespace latticed {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using testing::Process;
using testing::ToyProcess;

class Chains : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = std::make_unique<ToyProcess>(
        repository_.path(), key_.File("key"),
        std::vector<std::string>{"scale=1.3", "tile=64", "delay_us=300"});
  }
  Finished Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), LATTICECTL);
    arguments.push_back("--server");
    arguments.push_back(server_->target());
    Process process(arguments, log_.path());
    return process.Wait();
  }
  v1::RunChainRequest Asking(uint64_t steps, uint32_t chains) {
    v1::RunChainRequest request;
    request.mutable_chain()->mutable_model()->set_model("toy");
    request.mutable_chain()->mutable_stream()->set_name("chains");
    request.mutable_chain()->set_thinning(3);
    request.mutable_chain()->set_chains(chains);
    request.set_steps(steps);
    request.set_block_bytes_max(65536);
    return request;
  }
  // What a reader returned, by chain.
  struct Series {
    std::vector<uint64_t> index;
    std::vector<double> log_q;
    std::vector<uint8_t> accept;
    uint64_t next_step = 0;
  };
  static void Add(const StepBlock& block, std::map<uint32_t, Series>* all) {
    Series& series = (*all)[block.chain];
    EXPECT_EQ(block.first_step, series.next_step);
    series.next_step += block.steps;
    for (const uint32_t row : block.row) {
      series.index.push_back(block.index[row]);
      series.log_q.push_back(block.log_q[row]);
    }
    series.accept.insert(series.accept.end(), block.accept.begin(),
                         block.accept.end());
  }

  TemporaryDirectory repository_, key_, log_, work_;
  std::unique_ptr<ToyProcess> server_;
};

// Killed in the middle of rounds: every step of every chain arrives once.
TEST_F(Chains, AKilledServerCostsNothing) {
  auto client = Client::Connect(server_->target());
  ASSERT_TRUE(client.ok());
  constexpr uint64_t kSteps = 12000;
  ChainReader reader = (*client)->RunChain(Asking(kSteps, 3));
  std::map<uint32_t, Series> found;
  StepBlock block;
  int blocks = 0;
  while (true) {
    const auto more = reader.Next(&block);
    ASSERT_TRUE(more.ok()) << more.status();
    if (!*more) break;
    Add(block, &found);
    // After the first, the second and the third chain of a round.
    if (++blocks == 4 || blocks == 8 || blocks == 12) {
      server_->Kill();
      server_->Start();
    }
  }
  EXPECT_GE(reader.resumes(), 1);
  EXPECT_EQ(reader.steps(), kSteps);
  EXPECT_EQ(reader.chains(), 3);
  std::map<uint32_t, Series> expected;
  ChainReader unbroken = (*client)->RunChain(Asking(kSteps, 3));
  while (true) {
    const auto more = unbroken.Next(&block);
    ASSERT_TRUE(more.ok()) << more.status();
    if (!*more) break;
    Add(block, &expected);
  }
  for (uint32_t c = 0; c < 3; ++c) {
    EXPECT_EQ(found[c].index, expected[c].index);
    EXPECT_EQ(found[c].log_q, expected[c].log_q);
    EXPECT_EQ(found[c].accept, expected[c].accept);
    EXPECT_EQ(found[c].next_step, kSteps);
  }
  EXPECT_NE(found[0].accept, found[1].accept);
  EXPECT_EQ(reader.token(), unbroken.token());
  EXPECT_EQ(reader.accepted(), unbroken.accepted());
  EXPECT_EQ(reader.longest_rejection_run(), unbroken.longest_rejection_run());
}

TEST_F(Chains, LatticectlWritesContinuesAndVerifiesThem) {
  const std::string file = work_.File("a.npz");
  const Finished run =
      Run({"chain", "--model", "toy", "--steps", "2000", "--chains", "4",
           "--thinning", "2", "--output", file});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("chains: 4"),
                             HasSubstr("tau_int_action in steps"),
                             HasSubstr("tau_int_abs_M in steps"),
                             HasSubstr("longest rejection run")));
  const auto arrays = NpyReader::Open(file);
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  EXPECT_EQ((*arrays)->Find("phi")->rows(), 4 * 1000);
  EXPECT_EQ((*arrays)->Find("accept")->rows(), 4 * 2000);
  const std::string chain =
      *(*arrays)->Rows(*(*arrays)->Find("chain"), 0, 4 * 1000);
  for (char c = 0; c < 4; ++c) {
    EXPECT_EQ(std::count(chain.begin(), chain.end(), c), 1000);
  }
  EXPECT_EQ(Run({"verify", file}).code, 0);

  const std::string rest = work_.File("b.npz");
  const Finished more = Run({"chain", "--token_file", file + ".token",
                             "--steps", "500", "--output", rest, "--json"});
  ASSERT_EQ(more.code, 0) << more.err;
  google::protobuf::Struct json;
  ASSERT_TRUE(
      google::protobuf::util::JsonStringToMessage(more.out, &json).ok());
  EXPECT_EQ(json.fields().at("chains").number_value(), 4);
  EXPECT_EQ(json.fields().at("first_step").number_value(), 2000);
  EXPECT_EQ(json.fields().at("steps").number_value(), 500);
  EXPECT_GT(json.fields().at("tau_int_action").number_value(), 0.5);
  const Finished refused = Run({"verify", rest});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("from their start only"));
  EXPECT_EQ(
      Run({"chain", "--model", "toy", "--steps", "5", "--chains", "65"}).code,
      1);
}

// Killed while the chain sits on an updated configuration, which only the token
// has.
TEST_F(Chains, UpdatedChainsResumeContinueAndVerify) {
  server_ = std::make_unique<ToyProcess>(
      repository_.path(), key_.File("key"),
      std::vector<std::string>{"scale=0.8", "l0=2", "l1=2", "free_field=1",
                               "tile=64", "delay_us=300"});
  auto client = Client::Connect(server_->target());
  ASSERT_TRUE(client.ok());
  constexpr uint64_t kSteps = 4000;
  v1::RunChainRequest request = Asking(kSteps, 2);
  request.mutable_chain()->mutable_update()->set_interval(50);
  request.mutable_chain()->mutable_update()->mutable_cluster();
  const auto read = [&](bool kill) {
    ChainReader reader = (*client)->RunChain(request);
    std::map<uint32_t, Series> all;
    StepBlock block;
    uint64_t updated = 0;
    for (int blocks = 1;; ++blocks) {
      const auto more = reader.Next(&block);
      EXPECT_TRUE(more.ok()) << more.status();
      if (!more.ok() || !*more) break;
      EXPECT_EQ(block.updates.size(), block.index.size());
      for (const uint64_t updates : block.updates) updated += updates > 0;
      Add(block, &all);
      if (kill && blocks % 2 == 0 && blocks < 8) {
        server_->Kill();
        server_->Start();
      }
    }
    EXPECT_GT(updated, 0);
    EXPECT_EQ(reader.resumes() > 0, kill);
    return all;
  };
  const auto broken = read(true);
  const auto whole = read(false);
  for (uint32_t c = 0; c < 2; ++c) {
    EXPECT_EQ(broken.at(c).index, whole.at(c).index);
    EXPECT_EQ(broken.at(c).log_q, whole.at(c).log_q);
    EXPECT_EQ(broken.at(c).accept, whole.at(c).accept);
  }

  const std::string file = work_.File("a.npz");
  const Finished run =
      Run({"chain", "--model", "toy", "--steps", "1000", "--update",
           "hmc,every=10,steps=3", "--output", file});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("updates: 99, acceptance"));
  EXPECT_EQ(Run({"verify", file}).code, 0);
  const std::string rest = work_.File("b.npz");
  EXPECT_EQ(Run({"chain", "--token_file", file + ".token", "--steps", "500",
                 "--output", rest})
                .code,
            0);
  EXPECT_EQ(Run({"verify", rest}).code, 0) << "from the chain's start";
  const auto arrays = NpyReader::Open(rest);
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  ASSERT_NE((*arrays)->Find("updates"), nullptr);
  EXPECT_EQ((*arrays)->Find("updates")->rows(), 500);
}

}  // namespace
}  // namespace latticed
