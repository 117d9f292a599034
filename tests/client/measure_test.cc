// The client library and latticectl measure against servers of the toy flow,
// whose answers are known: S = sum phi^2 / 2 on 4 x 4, so chi_2 = 1 and
// log Z = 8 log 2 pi.
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

#include "client/client.h"
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

constexpr double kLogZ = 8 * 1.8378770664093453;

class MeasureCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = std::make_unique<ToyProcess>(
        repository_.path(), state_.File("key"),
        std::vector<std::string>{"scale=1.1", "tile=64", "delay_us=200"});
  }
  Finished Run(std::vector<std::string> arguments,
               const std::string& server = "") {
    arguments.insert(arguments.begin(), {LATTICECTL, "measure"});
    arguments.push_back("--server");
    arguments.push_back(server.empty() ? server_->target() : server);
    Process process(arguments, log_.path());
    return process.Wait();
  }
  static google::protobuf::Struct Json(const std::string& text) {
    google::protobuf::Struct json;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text, &json).ok())
        << text;
    return json;
  }
  static double Number(const google::protobuf::Struct& json,
                       const std::string& name) {
    return json.fields().at(name).number_value();
  }
  static Estimate Row(const google::protobuf::Struct& json,
                      const std::string& name) {
    const auto& row =
        json.fields().at("summary").struct_value().fields().at(name);
    return {Number(row.struct_value(), "value"),
            Number(row.struct_value(), "error")};
  }
  v1::MeasureRequest Asking(uint64_t draws) {
    v1::MeasureRequest request;
    request.mutable_model()->set_model("toy");
    request.mutable_stream()->set_name("m");
    request.add_observable("chi_2");
    request.mutable_budget()->set_draws(draws);
    return request;
  }

  TemporaryDirectory repository_, state_, log_, work_;
  std::unique_ptr<ToyProcess> server_;
};

TEST_F(MeasureCommand, ConvergesToTheAnswer) {
  const Finished run = Run({"--model", "toy", "--observable", "chi_2,log_Z",
                            "--relative_error", "0.01", "--json"});
  ASSERT_EQ(run.code, 0) << run.err;
  const auto json = Json(run.out);
  const Estimate chi_2 = Row(json, "chi_2");
  EXPECT_LE(chi_2.error, 0.01 * chi_2.value);
  EXPECT_NEAR(chi_2.value, 1, 5 * chi_2.error);
  EXPECT_NEAR(Row(json, "log_Z").value, kLogZ, 5 * Row(json, "log_Z").error);
  EXPECT_TRUE(json.fields().at("complete").bool_value());

  const Finished table = Run({"--model", "toy", "--observable", "chi_2",
                              "--draws", "3000", "--estimator", "chain"});
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("chi_2"), HasSubstr("log_Z"),
                               HasSubstr("tau_int"), HasSubstr("acceptance"),
                               HasSubstr("3000 draws")));
}

// 320 draws take at least a millisecond: 3 s of them show in a log.
TEST_F(MeasureCommand, SaysHowItGoesInALog) {
  const Finished run =
      Run({"--model", "toy", "--observable", "chi_2", "--seconds", "2.6"});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.err, AllOf(HasSubstr("draws  chi_2 "), HasSubstr("+-"),
                             HasSubstr("%)"), HasSubstr("ESS 0.78")));
}

TEST_F(MeasureCommand, ShardsOverServersAreOneMeasurement) {
  ToyProcess other(repository_.path(), state_.File("key"));
  const std::string output = work_.File("m.json");
  const Finished run =
      Run({"--model", "toy", "--observable", "chi_2", "--draws", "20000",
           "--stream", "s", "--shards", "4", "--output", output, "--json"},
          server_->target() + "," + other.target());
  ASSERT_EQ(run.code, 0) << run.err;
  std::ostringstream text;
  text << std::ifstream(output).rdbuf();
  const auto json = Json(text.str());
  EXPECT_EQ(Number(json, "draws"), 20000);
  const auto& shards = json.fields().at("shards").list_value();
  ASSERT_EQ(shards.values_size(), 4);
  double draws = 0;
  for (int i = 0; i < 4; ++i) {
    const auto& shard = shards.values(i).struct_value();
    EXPECT_EQ(shard.fields().at("server").string_value(),
              i % 2 == 0 ? server_->target() : other.target());
    EXPECT_EQ(Number(shard, "first_index"), i * 0x1p40);
    draws += Number(shard, "draws");
  }
  EXPECT_EQ(draws, 20000);
  EXPECT_EQ(json.fields()
                .at("sums")
                .struct_value()
                .fields()
                .at("blocks")
                .list_value()
                .values(0)
                .struct_value()
                .fields()
                .at("quantities")
                .list_value()
                .values_size(),
            10);
  // The same as measuring the parts one by one.
  auto client = Client::Connect(server_->target());
  ASSERT_TRUE(client.ok());
  std::optional<BlockSums> merged;
  for (uint64_t i = 0; i < 4; ++i) {
    v1::MeasureRequest request = Asking(5000);
    request.mutable_stream()->set_name("s");
    request.set_first_index(i << 40);
    MeasureReader reader = (*client)->Measure(request);
    Measured measured;
    while (true) {
      const auto more = reader.Next(&measured);
      ASSERT_TRUE(more.ok()) << more.status();
      if (!*more) break;
    }
    if (merged.has_value()) {
      merged->Append(*reader.sums());
    } else {
      merged = reader.sums();
    }
  }
  EXPECT_EQ(Row(json, "chi_2").value,
            merged->JackknifeObservables().at("chi_2").value);
  EXPECT_EQ(Row(json, "log_Z").error, merged->LogZ().error);
  // Not again over the file.
  EXPECT_EQ(Run({"--model", "toy", "--observable", "chi_2", "--draws", "10",
                 "--output", output})
                .code,
            3);
}

TEST_F(MeasureCommand, ShardsStopTogetherAtTheTarget) {
  const Finished run =
      Run({"--model", "toy", "--observable", "chi_2", "--relative_error",
           "0.005", "--shards", "3", "--json"});
  ASSERT_EQ(run.code, 0) << run.err;
  const auto json = Json(run.out);
  EXPECT_LE(Row(json, "chi_2").error, 0.005 * Row(json, "chi_2").value);
  // 2 / 0.005^2 / ESS = 1.0e5 draws in all; each shard alone would need them.
  EXPECT_LT(Number(json, "draws"), 2.2e5);
}

TEST_F(MeasureCommand, BadUsageAndRefusals) {
  const auto code = [&](std::vector<std::string> arguments,
                        const std::string& message) {
    const Finished run = Run(std::move(arguments));
    EXPECT_THAT(run.err, HasSubstr(message));
    return run.code;
  };
  EXPECT_EQ(code({"--observable", "chi_2", "--draws", "5"}, "--model is"), 1);
  EXPECT_EQ(code({"--model", "toy", "--draws", "5"}, "--observable is"), 1);
  EXPECT_EQ(code({"--model", "toy", "--observable", "chi_2"}, "a limit is"), 1);
  EXPECT_EQ(code({"--model", "toy", "--observable", "chi_2", "--draws", "5",
                  "--shards", "65"},
                 "--shards must be"),
            1);
  EXPECT_EQ(code({"--model", "toy", "--observable", "chi_2", "--draws", "5",
                  "--estimator", "x"},
                 "importance or chain"),
            1);
  EXPECT_EQ(code({"--model", "toy", "--observable", "chi_2", "--draws", "5",
                  "--output", "x.npz"},
                 "must end in .json"),
            1);
  EXPECT_EQ(code({"--model", "toy", "--observable", "chi2", "--draws", "5"},
                 "chi_2, abs_M"),
            1);
  EXPECT_EQ(code({"--model", "toy", "--observable", "chi_2", "--draws", "5",
                  "--expect_lattice", "8x8"},
                 "expected_lattice"),
            1);
  EXPECT_EQ(code({"--model", "no", "--observable", "chi_2", "--draws", "5"},
                 "this server has toy"),
            1);
  server_->Kill();
  EXPECT_EQ(code({"--model", "toy", "--observable", "chi_2", "--draws", "5",
                  "--retry_for", "0.1"},
                 "not available"),
            2);
}

// Every draw counts once: the merged sums are those of one run.
TEST_F(MeasureCommand, AKilledServerCostsNothing) {
  auto client = Client::Connect(server_->target());
  ASSERT_TRUE(client.ok());
  constexpr uint64_t kDraws = 200000;
  MeasureReader reader = (*client)->Measure(Asking(kDraws));
  Measured measured;
  uint64_t before = 0;
  int kills = 0;
  while (true) {
    const auto more = reader.Next(&measured);
    ASSERT_TRUE(more.ok()) << more.status();
    if (!*more) break;
    EXPECT_GE(measured.draws, before);
    before = measured.draws;
    if (kills < 2 && measured.draws > 20000u * (1 + kills)) {
      ++kills;
      server_->Kill();
      server_->Start();
    }
  }
  EXPECT_EQ(kills, 2);
  EXPECT_EQ(reader.resumes(), 2);
  EXPECT_EQ(measured.draws, kDraws);
  MeasureReader unbroken = (*client)->Measure(Asking(kDraws));
  Measured expected;
  while (true) {
    const auto more = unbroken.Next(&expected);
    ASSERT_TRUE(more.ok()) << more.status();
    if (!*more) break;
  }
  // The same draws, summed in other blocks.
  EXPECT_NEAR(measured.observables.at("chi_2").value,
              expected.observables.at("chi_2").value, 1e-12);
  EXPECT_NEAR(measured.log_z.value, expected.log_z.value, 1e-12);
}

}  // namespace
}  // namespace latticed
