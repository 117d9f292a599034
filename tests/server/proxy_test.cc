// Behind nginx and HAProxy: calls are balanced, a backend and the proxy itself
// may die under load, and HTTP/2 abuse stays with the proxy.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "tests/client/process.h"
#include "tests/client/toy_process.h"
#include "tests/server/certificates.h"
#include "tests/server/serving.h"
#include "tests/support/sanitizers.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Process;
using testing::ToyProcess;
using Clock = std::chrono::steady_clock;

bool Longer() { return std::getenv("LATTICED_LONG_TESTS") != nullptr; }

// -1: no connection.
int OpenConnection(int port) {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(connection, reinterpret_cast<sockaddr*>(&address),
              sizeof address) != 0) {
    close(connection);
    return -1;
  }
  const timeval timeout = {0, 300000};
  setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  return connection;
}

// A port that is free, below those that the system gives to clients: one of
// them could take it while the proxy is away, even by connecting to itself.
int FreePort() {
  static int next = 20000 + getpid() % 10000;
  while (true) {
    if (++next >= 32000) next = 20000;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(next));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool free = bind(listener, reinterpret_cast<sockaddr*>(&address),
                           sizeof address) == 0;
    close(listener);
    if (free) return next;
  }
}

// HAProxy wants two descriptors for each connection it may have.
int ConnectionsMax() {
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  return std::min<int>(16000, (static_cast<int>(files.rlim_cur) - 200) / 2);
}

// "nginx" or "haproxy" of the distribution in front of two servers.
class Proxy {
 public:
  Proxy(const std::string& kind, int first, int second)
      : kind_(kind), port_(FreePort()) {
    const std::string file = directory_.File("conf");
    WriteFileText(
        file, kind == "nginx" ? Nginx(first, second) : Haproxy(first, second));
    command_ =
        kind == "nginx"
            ? std::vector<std::string>{"/usr/sbin/nginx", "-p",
                                       directory_.path(), "-c", file}
            : std::vector<std::string>{"/usr/sbin/haproxy", "-db", "-f", file};
    Start();
  }
  void Start() {
    process_ = std::make_unique<Process>(command_, directory_.path());
    EXPECT_TRUE(Eventually([&] {
      const int connection = OpenConnection(port_);
      if (connection >= 0) close(connection);
      return connection >= 0;
    })) << FileText(directory_.File("stderr"));
  }
  void Kill() {
    process_->Signal(SIGKILL);
    process_->Wait();
  }
  int port() const { return port_; }
  std::string target() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  std::string Nginx(int first, int second) const {
    std::string temporary;
    for (const char* what :
         {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
      absl::StrAppend(&temporary, what, "_temp_path ", directory_.path(), "/",
                      what, ";\n");
    }
    // One process in the foreground, which a signal reaches.
    return absl::StrCat(
        "daemon off;\nmaster_process off;\npid ", directory_.File("pid"),
        ";\nerror_log ", directory_.File("error.log"),
        ";\nevents { worker_connections 16384; }\nhttp {\naccess_log off;\n",
        temporary, "upstream latticed {\nserver 127.0.0.1:", first,
        " fail_timeout=1s;\nserver 127.0.0.1:", second,
        " fail_timeout=1s;\nkeepalive 64;\n}\nserver {\nlisten 127.0.0.1:",
        port_,
        " http2;\nclient_header_timeout 5s;\ngrpc_read_timeout 120s;\n"
        "location / { grpc_pass grpc://latticed; }\n}\n}\n");
  }
  std::string Haproxy(int first, int second) const {
    return absl::StrCat(
        "global\n maxconn ", ConnectionsMax(),
        "\ndefaults\n mode http\n timeout connect 2s\n"
        " timeout client 120s\n timeout server 120s\n timeout http-request "
        "5s\n option redispatch\nfrontend clients\n bind 127.0.0.1:",
        port_,
        " proto h2\n"
        // HAProxy hands every stream on, also one that is reset at once: more
        // than any client of ours opens stay here (docs/security.md).
        " stick-table type ipv6 size 100k expire 30s store http_req_rate(1s)\n"
        " http-request track-sc0 src\n"
        " http-request deny deny_status 429 if { sc0_http_req_rate gt 1000 }\n"
        " default_backend latticed\nbackend latticed\n"
        " balance roundrobin\n server a 127.0.0.1:",
        first, " proto h2 check inter 200ms\n server b 127.0.0.1:", second,
        " proto h2 check inter 200ms\n");
  }

  const std::string kind_;
  const int port_;
  TemporaryDirectory directory_;
  std::vector<std::string> command_;
  std::unique_ptr<Process> process_;
};

class BehindAProxy : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Proxy> ProxyFor(int first, int second) {
    return std::make_unique<Proxy>(GetParam(), first, second);
  }
  TemporaryDirectory repository_;
  TemporaryDirectory state_;
};

double Calls(const Server& server) {
  return MetricValue(server.metrics().Text(),
                     "latticed_rpc_started_total{method=\"GetModel\",service="
                     "\"ModelService\"}");
}

TEST_P(BehindAProxy, CallsAreBalancedOneByOne) {
  PublishToy(repository_.path(), ToyFlow());
  const auto first = StartServer(TestConfig(repository_.path()));
  const auto second = StartServer(TestConfig(repository_.path()));
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  const auto proxy = ProxyFor(first->grpc_port(), second->grpc_port());
  // One connection for all of them.
  const auto client = Client::Connect(proxy->target());
  ASSERT_THAT(client, IsOk());
  for (int i = 0; i < 400; ++i) {
    ASSERT_THAT((*client)->GetModel("toy"), IsOk());
  }
  EXPECT_EQ(Calls(*first) + Calls(*second), 400);
  EXPECT_NEAR(Calls(*first), 200, 10);
}

// Streams while a backend and then the proxy are killed and come back: every
// draw arrives, once, and is the one it must be.
TEST_P(BehindAProxy, NothingIsLostWhenABackendOrTheProxyDies) {
  ToyFlow flow;
  flow.tile = 64;
  ToyProcess first(repository_.path(), state_.File("key"),
                   {"tile=64", "delay_us=300"});
  ToyProcess second(repository_.path(), state_.File("key"));
  ASSERT_FALSE(HasFatalFailure());
  const auto proxy = ProxyFor(first.port(), second.port());
  std::atomic<bool> stop = false;
  std::atomic<int> streams = 0;
  std::atomic<int> resumes = 0;
  std::atomic<int64_t> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      ClientOptions options;
      options.retry.connect = absl::Seconds(20);
      const auto client = *Client::Connect(proxy->target(), options);
      for (int i = 0; !stop; ++i) {
        const std::string name = absl::StrCat("stream-", t, "-", i);
        v1::StreamSamplesRequest request = DrawsOf("toy", name, 0, 30000);
        request.set_block_bytes_max(64 << 10);
        SampleReader reader = client->StreamSamples(request);
        DrawBlock block;
        uint64_t next = 0;
        while (true) {
          const absl::StatusOr<bool> more = reader.Next(&block);
          EXPECT_THAT(more, IsOk());
          if (!more.ok() || !*more) break;
          EXPECT_EQ(block.first_index, next);
          next += block.count;
          // Drawn again here.
          const ToyDraw draw =
              DrawToy(flow, NamedStream(name), block.first_index);
          if (block.log_q[0] != draw.log_q) ++wrong;
        }
        EXPECT_EQ(next, 30000u);
        resumes += reader.resumes();
        ++streams;
      }
    });
  }
  const int rounds = Longer() ? 20 : 1;
  for (int round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(milliseconds(500));
    ToyProcess& victim = round % 2 == 0 ? first : second;
    victim.Kill();
    std::this_thread::sleep_for(milliseconds(300));
    victim.Start();
    std::this_thread::sleep_for(milliseconds(1000));
    proxy->Kill();
    proxy->Start();
  }
  std::this_thread::sleep_for(milliseconds(500));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(streams, 4);
  EXPECT_GE(resumes, rounds) << "the control: something has been broken";
  EXPECT_EQ(wrong, 0);
  std::printf("%d streams, %d resumes\n", streams.load(), resumes.load());
}

std::string Frame(int type, int flags, uint32_t stream,
                  const std::string& payload) {
  std::string frame;
  for (const int shift : {16, 8, 0}) {
    frame.push_back(static_cast<char>(payload.size() >> shift));
  }
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  for (const int shift : {24, 16, 8, 0}) {
    frame.push_back(static_cast<char>(stream >> shift));
  }
  return frame + payload;
}

// HPACK without tables: literal fields, never indexed.
std::string Headers() {
  const auto field = [](const std::string& name, const std::string& value) {
    std::string text(1, '\x10');
    for (const std::string& part : {name, value}) {
      text.push_back(static_cast<char>(part.size()));
      text += part;
    }
    return text;
  };
  return field(":method", "POST") + field(":scheme", "http") +
         field(":path", "/latticed.v1.ModelService/ListModels") +
         field(":authority", "localhost") + field("te", "trailers") +
         field("content-type", "application/grpc");
}

const char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// A stream that is opened and reset costs tens of milliseconds under the thread
// sanitizer, and they queue up.
constexpr int64_t kFramesMax = kThreadSanitizer ? 1000 : INT64_MAX;

// One connection of an attacker until it is thrown out or the time is up.
// Returns the frames it got rid of.
int64_t Attack(const std::string& how, int port, Clock::time_point until) {
  const int connection = OpenConnection(port);
  if (connection < 0) return 0;
  std::string bytes = std::string(kPreface) + Frame(4, 0, 0, "");
  int64_t frames = 0;
  uint32_t stream = 1;
  while (Clock::now() < until && frames < kFramesMax) {
    for (int i = 0; i < 100; ++i, stream += 2) {
      if (how == "rapid reset") {
        bytes += Frame(1, 5, stream, Headers());
        bytes += Frame(3, 0, stream, std::string("\0\0\0\x8", 4));
      } else if (how == "settings") {
        bytes += Frame(4, 0, 0, "");
      } else if (how == "ping") {
        bytes += Frame(6, 0, 0, "12345678");
      } else {  // continuation
        if (frames == 0 && i == 0) bytes += Frame(1, 1, 1, Headers());
        bytes += Frame(9, 0, 1, std::string("\x10\x01x\x01y", 5));
      }
    }
    frames += 100;
    const ssize_t sent =
        send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(bytes.size())) break;
    bytes.clear();
    // What is answered is not read for long: the window of a careless client.
    char buffer[65536];
    while (recv(connection, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
    }
  }
  close(connection);
  return frames;
}

TEST_P(BehindAProxy, AbuseOfHttp2IsSurvived) {
  PublishToy(repository_.path(), ToyFlow());
  const auto first = StartServer(TestConfig(repository_.path()));
  const auto second = StartServer(TestConfig(repository_.path()));
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  const auto proxy = ProxyFor(first->grpc_port(), second->grpc_port());
  const auto works = [&](int port) {
    return Stream(Connect(port), DrawsOf("toy", "s", 0, 100)).status.ok();
  };
  ASSERT_TRUE(works(proxy->port()));
  for (const char* how : {"rapid reset", "settings", "ping", "continuation"}) {
    const auto until =
        Clock::now() + (Longer() ? milliseconds(60000) : milliseconds(500));
    std::atomic<int64_t> frames = 0;
    std::atomic<int> connections = 0;
    std::vector<std::thread> attackers;
    for (int i = 0; i < 2; ++i) {
      attackers.emplace_back([&] {
        while (Clock::now() < until && frames < kFramesMax) {
          frames += Attack(how, proxy->port(), until);
          ++connections;
        }
      });
    }
    // Whoever goes past the proxy is served, by a machine that is busy with
    // attackers and proxy.
    int direct = 0;
    while (Clock::now() < until) {
      EXPECT_TRUE(works(first->grpc_port())) << how;
      ++direct;
    }
    for (std::thread& attacker : attackers) attacker.join();
    EXPECT_GE(frames, 1000) << how;
    EXPECT_GE(direct, 1) << how;
    const auto start = Clock::now();
    EXPECT_TRUE(Eventually([&] { return works(proxy->port()); })) << how;
    const double recovery =
        std::chrono::duration<double>(Clock::now() - start).count();
    EXPECT_LT(recovery, 5) << how;
    std::printf(
        "%s, %s: %ld frames, %d connections, %d calls beside them, back in "
        "%.2f s\n",
        GetParam(), how, static_cast<long>(frames.load()), connections.load(),
        direct, recovery);
  }
}

TEST_P(BehindAProxy, HalfOpenConnectionsAreSurvived) {
  PublishToy(repository_.path(), ToyFlow());
  const auto first = StartServer(TestConfig(repository_.path()));
  const auto second = StartServer(TestConfig(repository_.path()));
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  const auto proxy = ProxyFor(first->grpc_port(), second->grpc_port());
  const int count = std::min(Longer() ? 10000 : 1000, ConnectionsMax() - 100);
  ASSERT_GE(count, 400);
  const std::string half = std::string(kPreface).substr(0, 10);
  std::vector<int> held;
  for (int i = 0; i < count; ++i) {
    const int connection = OpenConnection(proxy->port());
    if (connection < 0) break;
    send(connection, half.data(), half.size(), MSG_NOSIGNAL);
    held.push_back(connection);
  }
  EXPECT_EQ(held.size(), static_cast<size_t>(count));
  EXPECT_TRUE(Eventually([&] {
    return Stream(Connect(proxy->port()), DrawsOf("toy", "s", 0, 100))
        .status.ok();
  }));
  for (const int connection : held) close(connection);
  EXPECT_TRUE(
      Stream(Connect(proxy->port()), DrawsOf("toy", "s", 0, 1)).status.ok());
}

INSTANTIATE_TEST_SUITE_P(Proxies, BehindAProxy,
                         ::testing::Values("nginx", "haproxy"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace latticed
