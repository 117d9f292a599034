// The real binary as a process: what it prints, how it ends, and that a chain
// outlives it. The flow is one that latticed-train makes in a second.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "tests/server/serving.h"
#include "tests/support/device.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// For what nothing promises a time: LibTorch is loaded under sanitizers, on
// busy cores. A drain has its own, 25 s.
constexpr std::chrono::seconds kPatience(60);

// A child process, its output in files; killed if it outlives the object.
class Program {
 public:
  Program(const std::string& log, std::vector<std::string> arguments)
      : out_(log + ".out"), err_(log + ".err") {
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      if (freopen(out_.c_str(), "w", stdout) == nullptr ||
          freopen(err_.c_str(), "w", stderr) == nullptr) {
        _exit(126);
      }
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Program() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  void Signal(int number) const {
    // kill(-1) would reach every process of this user.
    if (pid_ > 0) kill(pid_, number);
  }
  std::string Out() const { return ReadFile(out_); }
  std::string Err() const { return ReadFile(err_); }
  // Exit code, 1000 + signal, or -1 if it still runs after the time.
  int Wait(std::chrono::seconds time) {
    const auto due = Clock::now() + time;
    while (Clock::now() < due) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status)
                                 : 1000 + WTERMSIG(status);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return -1;
  }

 private:
  const std::string out_;
  const std::string err_;
  pid_t pid_ = -1;
};

class ServerProcess : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryDirectory();
    Program train(shared_->File("train"),
                  {LATTICED_TRAIN, "--spec", TINY_SPEC, "--repository",
                   shared_->File("models"), "--model", "tiny"});
    ASSERT_EQ(train.Wait(2 * kPatience), 0) << train.Err();
  }
  static void TearDownTestSuite() { delete shared_; }

  std::vector<std::string> Command(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        LATTICED_BINARY,
        "--listen=127.0.0.1:0",
        "--http_listen=127.0.0.1:0",
        "--admin_listen=127.0.0.1:0",
        "--state_directory=" + directory_.File("state"),
        "--threads=1"};
    if (TestDevice() != "cpu") {
      arguments.push_back("--device=" + TestDevice());
      arguments.push_back("--kernel=plain");
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // Starts on the trained flow and waits until it is ready.
  std::unique_ptr<Program> Start() {
    auto program = std::make_unique<Program>(
        directory_.File(absl::StrCat("server", ++starts_)),
        Command({"--repository=" + shared_->File("models")}));
    EXPECT_TRUE(Eventually([&] {
      return absl::StrContains(program->Out(), "latticed ready");
    })) << program->Err();
    // latticed ready grpc=127.0.0.1:PORT http=... admin=... models=N
    const std::vector<std::string> words =
        absl::StrSplit(program->Out(), absl::ByAnyChar(" :\n"));
    EXPECT_EQ(words.size(), 10) << program->Out();
    if (words.size() < 10) return nullptr;
    EXPECT_EQ(words[2], "grpc=127.0.0.1");
    EXPECT_EQ(words[4], "http=127.0.0.1");
    EXPECT_EQ(words[6], "admin=127.0.0.1");
    EXPECT_EQ(words[8], "models=1");
    EXPECT_TRUE(absl::SimpleAtoi(words[3], &grpc_port_));
    EXPECT_TRUE(absl::SimpleAtoi(words[5], &http_port_));
    return program;
  }
  // Exit code and standard error of a start that must fail.
  std::pair<int, std::string> FailedStart(
      const std::vector<std::string>& more) {
    Program program(directory_.File("failed"), Command(more));
    const int code = program.Wait(kPatience);
    EXPECT_EQ(program.Out(), "");
    return {code, program.Err()};
  }

  static TemporaryDirectory* shared_;
  TemporaryDirectory directory_;
  int starts_ = 0;
  int grpc_port_ = 0;
  int http_port_ = 0;
};
TemporaryDirectory* ServerProcess::shared_ = nullptr;

TEST_F(ServerProcess, ServesTheSameDrawsAfterARestart) {
  auto server = Start();
  ASSERT_NE(server, nullptr);
  v1::StreamSamplesRequest request = DrawsOf("tiny", "s", 3, 3000);
  // Another published form of the same action, lambda = g / 6.
  auto* continuum =
      request.mutable_expected_action()->mutable_phi4()->mutable_continuum();
  continuum->set_mass_squared(-4);
  continuum->set_g(6 * 6.008);
  const StreamResult first = Stream(Connect(grpc_port_), request);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  EXPECT_EQ(first.log_q.size(), 3000);
  EXPECT_GT(first.summary->ess(), 0.01);
  EXPECT_THAT(HttpGet(http_port_, "/metrics"),
              HasSubstr("latticed_model_info{"));
  continuum->set_g(6 * 6.009);
  EXPECT_EQ(CodeAndReason(Stream(Connect(grpc_port_), request).status),
            "FAILED_PRECONDITION ACTION_MISMATCH");
  server->Signal(SIGKILL);
  EXPECT_EQ(server->Wait(kPatience), 1000 + SIGKILL);
  server = Start();
  ASSERT_NE(server, nullptr);
  request.clear_expected_action();
  const StreamResult again = Stream(Connect(grpc_port_), request);
  EXPECT_EQ(again.phi, first.phi);
  EXPECT_EQ(again.log_q, first.log_q);
  EXPECT_EQ(again.action, first.action);
  server->Signal(SIGINT);
  EXPECT_EQ(server->Wait(std::chrono::seconds(25)), 0);
}

TEST_F(ServerProcess, AChainSurvivesKillsToTheByte) {
  auto server = Start();
  ASSERT_NE(server, nullptr);
  v1::RunChainRequest start;
  start.mutable_chain()->mutable_model()->set_model("tiny");
  start.mutable_chain()->mutable_stream()->set_name("chain");
  start.set_steps(3000);
  start.set_block_bytes_max(65536);
  const ChainResult whole = RunChain(Connect(grpc_port_), start);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  ASSERT_GT(whole.blocks.size(), 6);
  std::string bytes, expected;
  for (const auto& block : whole.blocks) expected += block.SerializeAsString();
  v1::RunChainRequest request = start;
  uint64_t done = 0;
  for (int kills = 0; kills < 3; ++kills) {
    // Reads two blocks, then the server dies.
    const auto stub = v1::ChainService::NewStub(Connect(grpc_port_));
    grpc::ClientContext context;
    const auto reader = stub->RunChain(&context, request);
    v1::RunChainResponse response;
    int blocks = 0;
    while (blocks < 2 && reader->Read(&response)) {
      if (!response.has_block()) continue;
      ++blocks;
      bytes += response.block().SerializeAsString();
      done += response.block().steps();
      request.set_token(response.block().token());
      request.set_steps(3000 - done);
    }
    ASSERT_EQ(blocks, 2);
    server->Signal(SIGKILL);
    EXPECT_EQ(server->Wait(kPatience), 1000 + SIGKILL);
    context.TryCancel();
    server = Start();
    ASSERT_NE(server, nullptr);
  }
  const ChainResult rest = RunChain(Connect(grpc_port_), request);
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  for (const auto& block : rest.blocks) bytes += block.SerializeAsString();
  EXPECT_EQ(bytes, expected);
}

TEST_F(ServerProcess, SigtermUnderLoadEndsStreamsResumablyAndExitsZero) {
  auto server = Start();
  ASSERT_NE(server, nullptr);
  std::vector<StreamResult> results(8);
  std::vector<std::thread> clients;
  for (size_t c = 0; c < results.size(); ++c) {
    clients.emplace_back([&, c] {
      v1::StreamSamplesRequest request =
          DrawsOf("tiny", "s", 0, uint64_t{1} << 40);
      request.set_block_bytes_max(65536);
      results[c] = Stream(Connect(grpc_port_), request);
    });
  }
  EXPECT_TRUE(Eventually([&] {
    return MetricValue(HttpGet(http_port_, "/metrics"),
                       "latticed_rpc_time_to_first_message_seconds_count"
                       "{method=\"StreamSamples\",service="
                       "\"SamplerService\"}") == 8;
  }));
  server->Signal(SIGTERM);
  EXPECT_EQ(server->Wait(std::chrono::seconds(25)), 0) << server->Err();
  for (std::thread& client : clients) client.join();
  for (const StreamResult& result : results) {
    EXPECT_EQ(CodeAndReason(result.status), "UNAVAILABLE DRAINING")
        << result.status.error_message();
    EXPECT_EQ(PartsOf(result.status).info.metadata().count("next_index"), 1);
  }
}

TEST_F(ServerProcess, ASecondSignalExitsAtOnce) {
  const std::string models = "--repository=" + shared_->File("models");
  Program server(
      directory_.File("server"),
      Command({models, "--lame_duck_seconds=17", "--drain_seconds=5"}));
  ASSERT_TRUE(Eventually([&] {
    return absl::StrContains(server.Out(), "latticed ready");
  })) << server.Err();
  server.Signal(SIGTERM);
  ASSERT_TRUE(
      Eventually([&] { return absl::StrContains(server.Err(), "draining"); }));
  server.Signal(SIGTERM);
  // Before the lame duck's time is over.
  EXPECT_EQ(server.Wait(std::chrono::seconds(15)), 128 + SIGTERM);
}

TEST_F(ServerProcess, StartsThatCannotWorkSayWhyAndWhetherToTryAgain) {
  const std::string models = "--repository=" + shared_->File("models");
  auto [code, error] = FailedStart({});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(error, HasSubstr("--repository is not set"));
  std::tie(code, error) =
      FailedStart({"--repository=" + directory_.File("nowhere")});
  EXPECT_EQ(code, 2);  // mounted late, perhaps
  EXPECT_THAT(error, HasSubstr("nowhere"));
  std::tie(code, error) = FailedStart({models, "--listen=0.0.0.0:0"});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(error, HasSubstr("--insecure_allow_remote"));
  std::tie(code, error) = FailedStart({models, "--poll_seconds=0"});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(error, HasSubstr("--poll_seconds"));
  std::tie(code, error) = FailedStart({models, "extra"});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(error, HasSubstr("extra"));
  std::tie(code, error) = FailedStart({models, "--no_such_flag=1"});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(error, HasSubstr("no_such_flag"));
  if (TestDevice() == "cpu") {  // a build without CUDA, or no GPU
    std::tie(code, error) =
        FailedStart({models, "--device=cuda", "--kernel=plain"});
    EXPECT_THAT(code, testing::AnyOf(1, 2));
    EXPECT_THAT(error, HasSubstr("use --device=cpu"));
  }
  const auto server = Start();
  ASSERT_NE(server, nullptr);
  std::tie(code, error) =
      FailedStart({models, absl::StrCat("--listen=127.0.0.1:", grpc_port_)});
  EXPECT_EQ(code, 2);
  EXPECT_THAT(error, HasSubstr(absl::StrCat("127.0.0.1:", grpc_port_)));
  std::tie(code, error) = FailedStart(
      {models, absl::StrCat("--http_listen=127.0.0.1:", http_port_)});
  EXPECT_EQ(code, 2);
  EXPECT_THAT(error, HasSubstr("--http_listen"));
}

// A flow whose spec lost a field is rejected by name; the others are served.
TEST_F(ServerProcess, ADamagedModelDoesNotKeepTheOthersFromBeingServed) {
  const std::string repository = directory_.File("models");
  std::filesystem::copy(shared_->File("models"), repository,
                        std::filesystem::copy_options::recursive);
  auto checkpoint = ReadVersion(repository, "tiny", 1);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  v1::Manifest manifest = checkpoint->manifest;
  manifest.mutable_spec()->clear_lattice();
  ASSERT_TRUE(Publish(repository, "lost", manifest, checkpoint->weights).ok());
  Weights weights = checkpoint->weights;
  weights.erase(weights.begin());
  ASSERT_TRUE(Publish(repository, "tiny", checkpoint->manifest, weights).ok());
  Program server(directory_.File("server"),
                 Command({"--repository=" + repository}));
  ASSERT_TRUE(Eventually([&] {
    return absl::StrContains(server.Out(), "models=1");
  })) << server.Err();
  EXPECT_THAT(server.Err(), HasSubstr("lost version 1"));
  EXPECT_THAT(server.Err(), HasSubstr("lattice"));
  EXPECT_THAT(server.Err(), HasSubstr("tiny version 2"));
  EXPECT_THAT(server.Err(), HasSubstr("tiny version 1"));
}

}  // namespace
}  // namespace latticed
