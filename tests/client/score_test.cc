// latticectl score and the Evaluator against a server of the toy flow: with
// phi = scale z and S = sum phi^2 / 2 everything is known.
#include <cmath>
#include <fstream>
#include <sstream>

#include "client/client.h"
#include "core/random/stream.h"
#include "core/wire/block.h"
#include "core/wire/npy.h"
#include "core/wire/npy_reader.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "tests/client/toy_process.h"

namespace latticed {
namespace {

using testing::Finished;
using ::testing::HasSubstr;
using testing::Process;
using testing::ToyProcess;

constexpr double kScale = 1.25;
constexpr double kLogTwoPi = 1.8378770664093453;

class Score : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = std::make_unique<ToyProcess>(
        repository_.path(), state_.File("key"),
        std::vector<std::string>{"scale=1.25", "tile=64"});
  }
  Finished Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {LATTICECTL, "score"});
    arguments.push_back("--server");
    arguments.push_back(server_->target());
    Process process(arguments, log_.path());
    return process.Wait();
  }
  // n configurations of independent normal sites of this width.
  std::vector<float> Fields(int n, float width) {
    std::vector<float> phi(static_cast<size_t>(n) * 16);
    Normals(NamedStream("score"), 0, Purpose::kBaseDraw, absl::MakeSpan(phi));
    for (float& x : phi) x *= width;
    return phi;
  }
  std::string Write(const std::string& name, const std::vector<float>& phi,
                    std::vector<int64_t> shape) {
    const std::string path = work_.File(name);
    std::ofstream(path, std::ios::binary)
        << NpyHeader("<f4", shape) << BytesOf(phi);
    return path;
  }
  static google::protobuf::Struct Json(const std::string& text) {
    google::protobuf::Struct json;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text, &json).ok())
        << text;
    return json;
  }
  static Estimate Row(const google::protobuf::Struct& json,
                      const std::string& name) {
    const auto& row =
        json.fields().at("summary").struct_value().fields().at(name);
    return {row.struct_value().fields().at("value").number_value(),
            row.struct_value().fields().at("error").number_value()};
  }

  TemporaryDirectory repository_, state_, log_, work_;
  std::unique_ptr<ToyProcess> server_;
};

TEST_F(Score, GivesLogQAndSOfEveryConfiguration) {
  // More than one message of 1 MiB.
  constexpr int kCount = 40000;
  const std::vector<float> phi = Fields(kCount, 1);
  const std::string input = Write("in.npy", phi, {kCount, 4, 4});
  const std::string output = work_.File("out.npz");
  const Finished run =
      Run({"--model", "toy", "--input", input, "--output", output, "--json"});
  ASSERT_EQ(run.code, 0) << run.err;
  const auto arrays = NpyReader::Open(output);
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  std::map<std::string, std::vector<double>> values;
  for (const char* name : {"log_q", "action", "log_w"}) {
    const NpyReader::Array* array = (*arrays)->Find(name);
    ASSERT_NE(array, nullptr) << name;
    ASSERT_EQ(array->rows(), kCount);
    values[name].resize(kCount);
    ASSERT_TRUE(FromBytes(*(*arrays)->Rows(*array, 0, kCount),
                          absl::MakeSpan(values[name])));
  }
  for (int i = 0; i < kCount; i += 97) {
    double squares = 0;
    for (int x = 0; x < 16; ++x) {
      squares += double{phi[i * 16 + x]} * phi[i * 16 + x];
    }
    EXPECT_NEAR(values["action"][i], squares / 2, 1e-9);
    EXPECT_NEAR(values["log_q"][i],
                -squares / (2 * kScale * kScale) - 8 * kLogTwoPi -
                    16 * std::log(kScale),
                1e-5);
    EXPECT_EQ(values["log_w"][i], -values["action"][i] - values["log_q"][i]);
  }
  // These are of the target, exactly.
  const double ess =
      std::pow(std::sqrt(2 * kScale * kScale - 1) / (kScale * kScale), 16);
  const auto json = Json(run.out);
  const Estimate found = Row(json, "ESS_if_drawn_from_target");
  EXPECT_GT(found.error, 0);
  EXPECT_LT(found.error, 0.02);
  EXPECT_NEAR(found.value, ess, 5 * found.error);
  EXPECT_EQ(json.fields().at("configurations").number_value(), kCount);
}

TEST_F(Score, BadInputIsRefusedByName) {
  const auto message = [&](const std::string& input, int code) {
    const Finished run = Run({"--model", "toy", "--input", input});
    EXPECT_EQ(run.code, code) << run.err;
    return run.err;
  };
  EXPECT_THAT(message(work_.File("none.npy"), 1), HasSubstr("cannot read"));
  EXPECT_THAT(message(Write("flat.npy", Fields(2, 1), {2, 16}), 1),
              HasSubstr("not <f4 [n, L_0, L_1]"));
  EXPECT_THAT(message(Write("shape.npy", Fields(2, 1), {2, 2, 8}), 1),
              HasSubstr("phi is on 2x8, toy on 4x4"));
  EXPECT_THAT(message(Write("small.npy", std::vector<float>(12), {3, 2, 2}), 1),
              HasSubstr("phi: has"));
  std::vector<float> bad = Fields(10, 1);
  bad[5 * 16 + 2] = INFINITY;
  EXPECT_THAT(message(Write("bad.npy", bad, {10, 4, 4}), 1),
              HasSubstr("configuration 5 is not finite"));
  EXPECT_EQ(Run({"--model", "toy"}).code, 1);
  EXPECT_EQ(Run({"--input", "x.npy"}).code, 1);
}

TEST_F(Score, AKilledServerCostsNothing) {
  auto client = Client::Connect(server_->target());
  ASSERT_TRUE(client.ok());
  v1::ModelSelector model;
  model.set_model("toy");
  Evaluator evaluator = (*client)->Evaluate(model);
  const std::vector<float> phi = Fields(100, 1);
  std::vector<double> log_q, action, again;
  ASSERT_TRUE(evaluator.Evaluate(phi, &log_q, &action).ok());
  server_->Kill();
  server_->Start();
  ASSERT_TRUE(evaluator.Evaluate(phi, &again, &action).ok());
  EXPECT_EQ(again, log_q);
  EXPECT_EQ(evaluator.resumes(), 1);
}

}  // namespace
}  // namespace latticed
