// The commands of docs/security.md, run as they stand there.
#include <string>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "tests/server/certificates.h"
#include "tests/server/serving.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

// Every block of commands that the text says is run here.
std::string Commands() {
  const std::string text = FileText(SECURITY_DOCS);
  const std::string mark = "<!-- run by server_security_docs_test -->\n```sh\n";
  std::string commands;
  size_t at = 0;
  int blocks = 0;
  while ((at = text.find(mark, at)) != std::string::npos) {
    at += mark.size();
    absl::StrAppend(&commands, text.substr(at, text.find("```", at) - at));
    ++blocks;
  }
  EXPECT_EQ(blocks, 2);
  return commands;
}

TEST(SecurityDocs, TheirCommandsMakeWhatServerAndClientNeed) {
  TemporaryDirectory directory;
  WriteFileText(directory.File("run.sh"), Commands());
  Shell(absl::StrCat("cd ", directory.path(), " && bash -euo pipefail run.sh"));

  TemporaryDirectory repository;
  PublishToy(repository.path(), ToyFlow());
  Config config = TestConfig(repository.path());
  config.tls_certificate_file = directory.File("server.pem");
  config.tls_key_file = directory.File("server.key");
  config.token_file = directory.File("tokens");
  const auto with_tokens = StartServer(config);
  config.tls_client_ca_file = directory.File("ca.pem");
  const auto with_certificates = StartServer(config);
  ASSERT_NE(with_tokens, nullptr);
  ASSERT_NE(with_certificates, nullptr);

  const auto draw = [](int port, const ClientOptions& options) {
    auto client = Client::Connect(absl::StrCat("127.0.0.1:", port), options);
    if (!client.ok()) return client.status();
    SampleReader reader = (*client)->StreamSamples(DrawsOf("toy", "s", 0, 10));
    DrawBlock block;
    absl::StatusOr<bool> more;
    do {
      more = reader.Next(&block);
    } while (more.ok() && *more);
    if (!more.ok()) return more.status();
    v1::SampleRequest one;
    one.mutable_model()->set_model("toy");
    one.set_count(1);
    return (*client)->Sample(one).status();
  };
  ClientOptions options;
  options.retry.connect = absl::Milliseconds(300);
  options.tls.ca_file = directory.File("ca.pem");
  EXPECT_THAT(draw(with_tokens->grpc_port(), options),
              StatusIs(absl::StatusCode::kUnauthenticated));
  options.token_file = directory.File("alice.token");
  EXPECT_THAT(draw(with_tokens->grpc_port(), options), IsOk());
  EXPECT_THAT(draw(with_certificates->grpc_port(), options),
              StatusIs(absl::StatusCode::kUnavailable))
      << "no certificate, no handshake";
  options.tls.certificate_file = directory.File("node7.pem");
  options.tls.key_file = directory.File("node7.key");
  EXPECT_THAT(draw(with_certificates->grpc_port(), options), IsOk());
  options.token_file = "";
  EXPECT_THAT(draw(with_certificates->grpc_port(), options), IsOk());
}

}  // namespace
}  // namespace latticed
