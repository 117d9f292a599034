// Starts that must fail, and say why.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "server/tokens.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

absl::Status StartError(const Config& config) {
  return Server::Start(config, ToySamplers(), nullptr).status();
}

TEST(Start, AMissingRepositoryIsNamed) {
  TemporaryDirectory directory;
  Config config = TestConfig(directory.File("nowhere"));
  EXPECT_THAT(StartError(config),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("--repository")));
  EXPECT_THAT(StartError(config),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
  std::ofstream(directory.File("file")) << "x";
  config.repository = directory.File("file");
  EXPECT_THAT(StartError(config), Not(IsOk()));
}

TEST(Start, AnEmptyRepositoryIsServed) {
  TemporaryDirectory repository;
  const auto server = StartServer(TestConfig(repository.path()));
  ASSERT_NE(server, nullptr);
  EXPECT_EQ(server->models(), 0);
}

// A port that was free a moment ago.
int FreePort() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size),
            0);
  close(listener);
  return ntohs(address.sin_port);
}

// While the first model loads, a call for the second is told to come back, and
// one for a model that is nowhere that it is unknown.
TEST(Start, AModelThatIsStillLoadingIsNotUnknown) {
  TemporaryDirectory repository;
  std::string digest;
  for (const char* model : {"first", "second"}) {
    ToyFlow flow;
    flow.model = model;
    digest = PublishToy(repository.path(), flow).digest;
  }
  Config config = TestConfig(repository.path());
  const int port = FreePort();
  config.listen = "127.0.0.1:" + std::to_string(port);
  std::vector<std::string> answers;
  const SamplerFactory factory = ToySamplers();
  const auto server = Server::Start(
      config,
      [&](const Checkpoint& checkpoint, int step_factor) {
        if (answers.empty()) {
          for (const char* model : {"second", "nowhere"}) {
            answers.push_back(CodeAndReason(
                Stream(Connect(port), DrawsOf(model, "s", 0, 1)).status));
          }
          // As a client that resumes asks.
          v1::StreamSamplesRequest pinned = DrawsOf("second", "s", 0, 1);
          pinned.mutable_model()->set_digest(digest);
          answers.push_back(
              CodeAndReason(Stream(Connect(port), pinned).status));
        }
        return factory(checkpoint, step_factor);
      },
      nullptr);
  ASSERT_THAT(server, IsOk());
  EXPECT_THAT(answers, ::testing::ElementsAre("UNAVAILABLE NO_LIVE_VERSION",
                                              "NOT_FOUND MODEL_NOT_FOUND",
                                              "UNAVAILABLE NO_LIVE_VERSION"));
  EXPECT_TRUE(Stream(Connect(port), DrawsOf("second", "s", 0, 1)).status.ok());
}

TEST(Start, APortInUseIsNamed) {
  TemporaryDirectory repository;
  PublishToy(repository.path(), ToyFlow());
  const auto first = StartServer(TestConfig(repository.path()));
  ASSERT_NE(first, nullptr);
  Config config = TestConfig(repository.path());
  config.listen = "127.0.0.1:" + std::to_string(first->grpc_port());
  EXPECT_THAT(StartError(config),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("--listen")));
  config = TestConfig(repository.path());
  config.admin_listen = "127.0.0.1:" + std::to_string(first->admin_port());
  EXPECT_THAT(StartError(config), StatusIs(absl::StatusCode::kUnavailable,
                                           HasSubstr("--admin_listen")));
  config = TestConfig(repository.path());
  config.http_listen = "127.0.0.1:" + std::to_string(first->http_port());
  EXPECT_THAT(StartError(config), StatusIs(absl::StatusCode::kUnavailable,
                                           HasSubstr("--http_listen")));
  // The first one goes on.
  EXPECT_TRUE(Stream(Connect(first->grpc_port()), DrawsOf("toy", "s", 0, 1))
                  .status.ok());
}

TEST(Start, TokenKeysMustBeSecretAndLongEnough) {
  TemporaryDirectory directory;
  Config config = TestConfig(directory.path());
  config.chain_token_key_file = directory.File("key");
  EXPECT_THAT(LoadTokenKey(config), Not(IsOk()));
  std::ofstream(config.chain_token_key_file) << "short";
  fs::permissions(config.chain_token_key_file, fs::perms::owner_read);
  EXPECT_THAT(LoadTokenKey(config),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("at least 16")));
  fs::permissions(config.chain_token_key_file, fs::perms::owner_all);
  std::ofstream(config.chain_token_key_file) << "long enough for a key";
  EXPECT_EQ(*LoadTokenKey(config), "long enough for a key");
  fs::permissions(config.chain_token_key_file,
                  fs::perms::owner_read | fs::perms::others_read);
  EXPECT_THAT(
      LoadTokenKey(config),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("chmod 600")));
}

TEST(Start, ATokenKeyIsCreatedOnceAndKept) {
  TemporaryDirectory directory;
  Config config = TestConfig(directory.path());
  config.state_directory = directory.File("state");
  const auto key = LoadTokenKey(config);
  ASSERT_THAT(key, IsOk());
  EXPECT_EQ(key->size(), 32);
  EXPECT_EQ(*LoadTokenKey(config), *key);
  const auto mode =
      fs::status(config.state_directory + "/chain-token.key").permissions();
  EXPECT_EQ(mode, fs::perms::owner_read | fs::perms::owner_write);
  config.state_directory = directory.File("a file");
  std::ofstream(config.state_directory) << "x";
  EXPECT_THAT(LoadTokenKey(config), Not(IsOk()));
}

TEST(Config, ErrorsNameTheFlagAndTheRange) {
  const auto message = [](const std::function<void(Config*)>& change) {
    Config config;
    config.repository = "models";
    EXPECT_THAT(Validate(config), IsOk());
    change(&config);
    return std::string(Validate(config).message());
  };
  EXPECT_THAT(message([](Config* c) { c->repository = ""; }),
              HasSubstr("--repository"));
  EXPECT_THAT(message([](Config* c) { c->kernel = "fast"; }),
              HasSubstr("fused and plain"));
  EXPECT_THAT(message([](Config* c) { c->device = "tpu"; }),
              HasSubstr("--device"));
  EXPECT_THAT(message([](Config* c) { c->listen = "0.0.0.0:7410"; }),
              HasSubstr("--insecure_allow_remote"));
  EXPECT_THAT(message([](Config* c) { c->http_listen = "10.0.0.1:1"; }),
              HasSubstr("TLS"));
  EXPECT_EQ(message([](Config* c) {
              c->listen = "0.0.0.0:7410";
              c->insecure_allow_remote = true;
            }),
            "");
  EXPECT_EQ(message([](Config* c) { c->listen = "[::1]:0"; }), "");
  for (const char* listen :
       {"", "7410", "127.0.0.1", "127.0.0.1:", ":1", "127.0.0.1:65536",
        "127.0.0.1:-1", "host:1", "[::1:1", "127.0.0.1:7410x"}) {
    EXPECT_THAT(message([&](Config* c) { c->listen = listen; }),
                HasSubstr("--listen"))
        << listen;
  }
  EXPECT_THAT(message([](Config* c) { c->poll_seconds = 0; }),
              HasSubstr("0.05 to 3600"));
  EXPECT_THAT(message([](Config* c) { c->poll_seconds = NAN; }),
              HasSubstr("--poll_seconds"));
  EXPECT_THAT(message([](Config* c) { c->threads = -1; }),
              HasSubstr("--threads"));
  EXPECT_THAT(message([](Config* c) { c->calls_per_peer_max = 2000; }),
              HasSubstr("1 to 1024"));
  EXPECT_THAT(message([](Config* c) { c->buffer_bytes_max = 1; }),
              HasSubstr("--buffer_bytes_max"));
  EXPECT_THAT(message([](Config* c) { c->drain_seconds = 30; }),
              HasSubstr("--drain_seconds"));
}

}  // namespace
}  // namespace latticed
