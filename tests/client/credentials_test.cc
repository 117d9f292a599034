#include "client/credentials.h"

#include <sys/stat.h>

#include <fstream>

#include "client/client.h"
#include "gmock/gmock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ClientCredentials : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text,
                    mode_t mode = 0600) {
    const std::string path = directory_.File(name);
    std::ofstream(path, std::ios::binary) << text;
    chmod(path.c_str(), mode);
    return path;
  }
  absl::Status Connect(const std::string& target) {
    return Client::Connect(target, options_).status();
  }

  TemporaryDirectory directory_;
  ClientOptions options_;
};

TEST_F(ClientCredentials, ATokenIsTheFirstLine) {
  const auto token = ReadBearerToken(Write("token", "  abc-123 \nanother\n"));
  ASSERT_THAT(token, IsOk());
  EXPECT_EQ(*token, "abc-123");
  for (const std::string& bad :
       {std::string(), std::string("\nabc\n"), std::string("two words\n"),
        std::string("a\0b", 3), std::string(5000, 'x')}) {
    const auto refused = ReadBearerToken(Write("bad", bad));
    EXPECT_THAT(refused, Not(IsOk()));
    // The contents are nobody's business.
    if (bad.size() > 10) {
      EXPECT_THAT(std::string(refused.status().message()),
                  Not(HasSubstr(bad.substr(0, 10))));
    }
  }
  EXPECT_THAT(
      ReadBearerToken(Write("open", "abc\n", 0644)).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("chmod 600")));
  EXPECT_THAT(ReadBearerToken(directory_.path()), Not(IsOk()));
  EXPECT_THAT(ReadBearerToken(directory_.File("nowhere")).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--auth_token_file")));
}

TEST_F(ClientCredentials, ATokenLeavesTheMachineOnlyUnderTls) {
  options_.token_file = Write("token", "abc\n");
  for (const char* local : {"127.0.0.1:1", "localhost:1", "[::1]:1",
                            "127.1.2.3:1", "unix:/tmp/socket"}) {
    EXPECT_THAT(Connect(local), IsOk()) << local;
  }
  for (const char* remote :
       {"gpu17:7410", "10.0.0.1:7410", "127.example.org:1",
        "localhost.example.org:1", "dns:///gpu17:7410", "[::2]:1"}) {
    EXPECT_THAT(Connect(remote), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--tls_ca_file")))
        << remote;
  }
  options_.tls.ca_file = Write("ca", "-----BEGIN CERTIFICATE-----\n");
  EXPECT_THAT(Connect("gpu17:7410"), IsOk());
}

TEST_F(ClientCredentials, TlsFilesAreChecked) {
  options_.tls.server_name = "server";
  EXPECT_THAT(Connect("a:1"), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("--tls_ca_file")));
  options_.tls.ca_file = directory_.File("nowhere");
  EXPECT_THAT(Connect("a:1"), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("No such file")));
  options_.tls.ca_file = Write("noise", "noise");
  EXPECT_THAT(Connect("a:1"), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("holds no certificate")));
  options_.tls.ca_file = Write("ca", "-----BEGIN CERTIFICATE-----\n");
  EXPECT_THAT(Connect("a:1"), IsOk()) << "the control";
  options_.tls.key_file = Write("key", "key", 0644);
  EXPECT_THAT(Connect("a:1"), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("belong together")));
  options_.tls.certificate_file = options_.tls.ca_file;
  EXPECT_THAT(Connect("a:1"), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("chmod 600")));
}

}  // namespace
}  // namespace latticed
