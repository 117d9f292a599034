#include "tests/server/serving.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/wire/block.h"
#include "core/wire/crc32c.h"
#include "google/rpc/status.pb.h"
#include "server/errors.h"

namespace latticed {
namespace {

template <typename T>
void Append(const std::string& bytes, std::vector<T>* values) {
  std::vector<T> more(bytes.size() / sizeof(T));
  ASSERT_TRUE(FromBytes(bytes, absl::MakeSpan(more)));
  values->insert(values->end(), more.begin(), more.end());
}

void AddBlock(const v1::SampleBlock& block, StreamResult* result) {
  EXPECT_EQ(block.first_index(), result->next_index);
  EXPECT_EQ(block.crc32c(),
            BlockCrc32c(block.log_q(), block.action(), block.phi()));
  Append(block.phi(), &result->phi);
  Append(block.log_q(), &result->log_q);
  Append(block.action(), &result->action);
  for (const uint32_t offset : block.non_finite()) {
    EXPECT_LT(offset, block.count());
    result->non_finite.push_back(block.first_index() + offset);
  }
  result->next_index += block.count();
}

}  // namespace

Config TestConfig(const std::string& repository) {
  Config config;
  config.repository = repository;
  config.listen = "127.0.0.1:0";
  config.http_listen = "127.0.0.1:0";
  config.admin_listen = "127.0.0.1:0";
  config.poll_seconds = 0.05;
  config.smoke_draws = 64;
  config.gate_draws = 0;
  config.drain_seconds = 5;
  return config;
}

std::unique_ptr<Server> StartServer(const Config& config) {
  const absl::Status valid = Validate(config);
  EXPECT_TRUE(valid.ok()) << valid;
  auto server = Server::Start(config, ToySamplers(), ToyCouplings());
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

std::shared_ptr<grpc::Channel> Connect(int port,
                                       grpc::ChannelArguments arguments) {
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  auto channel =
      grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port),
                                grpc::InsecureChannelCredentials(), arguments);
  // gRPC 1.51 looks at errno not at once after connect(): now and then it takes
  // a connection that is being made for one that failed. The next attempt is
  // good, as it is for Client, which retries.
  EXPECT_TRUE(channel->WaitForConnected(std::chrono::system_clock::now() +
                                        std::chrono::seconds(60)));
  return channel;
}

ErrorParts PartsOf(const grpc::Status& status) {
  ErrorParts parts;
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return parts;
  EXPECT_EQ(details.code(), status.error_code());
  EXPECT_EQ(details.message(), status.error_message());
  for (const auto& detail : details.details()) {
    google::rpc::RetryInfo retry;
    detail.UnpackTo(&parts.info);
    detail.UnpackTo(&parts.bad_request);
    if (detail.UnpackTo(&retry)) parts.retry = retry;
  }
  return parts;
}

std::string CodeAndReason(const grpc::Status& status) {
  return absl::StrCat(CodeName(status.error_code()), " ",
                      PartsOf(status).info.reason());
}

StreamResult Stream(const std::shared_ptr<grpc::Channel>& channel,
                    const v1::StreamSamplesRequest& request) {
  StreamResult result;
  const auto stub = v1::SamplerService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->StreamSamples(&context, request);
  v1::StreamSamplesResponse response;
  bool first = true;
  while (reader->Read(&response)) {
    EXPECT_EQ(response.has_header(), first);
    EXPECT_FALSE(result.summary.has_value()) << "a message after the summary";
    first = false;
    if (response.has_header()) {
      result.header = response.header();
      result.next_index = response.header().first_index();
    } else if (response.has_change()) {
      EXPECT_EQ(response.change().provenance().first_index(),
                result.next_index);
      result.changes.push_back(response.change());
    } else if (response.has_summary()) {
      result.summary = response.summary();
    } else {
      AddBlock(response.block(), &result);
      result.blocks.push_back(std::move(*response.mutable_block()));
    }
  }
  result.status = reader->Finish();
  return result;
}

v1::StreamSamplesRequest DrawsOf(const std::string& model,
                                 const std::string& stream,
                                 uint64_t first_index, uint64_t count) {
  v1::StreamSamplesRequest request;
  request.mutable_model()->set_model(model);
  if (!stream.empty()) request.mutable_stream()->set_name(stream);
  request.set_first_index(first_index);
  request.set_count(count);
  return request;
}

void AppendChainBlock(const v1::ChainBlock& block, ChainResult* result) {
  EXPECT_EQ(block.crc32c(),
            BlockCrc32c(block.log_q(), block.action(), block.phi()));
  std::vector<float> phi;
  std::vector<double> log_q;
  Append(block.phi(), &phi);
  Append(block.log_q(), &log_q);
  const size_t rows = static_cast<size_t>(block.index_size());
  const size_t sites = rows == 0 ? 0 : phi.size() / rows;
  EXPECT_EQ(log_q.size(), rows);
  for (const uint32_t row : block.row()) {
    ASSERT_LT(row, rows);
    result->index.push_back(block.index(static_cast<int>(row)));
    result->updates.push_back(
        block.updates_size() > 0 ? block.updates(static_cast<int>(row)) : 0);
    result->log_q.push_back(log_q[row]);
    const float* const from = phi.data() + row * sites;
    result->phi.insert(result->phi.end(), from, from + sites);
  }
  for (uint32_t step = 0; step < block.steps(); ++step) {
    const bool accepted = (block.accept()[step / 8] >> (step % 8)) & 1;
    result->accept.push_back(accepted ? '1' : '0');
  }
  result->token = block.token();
}

ChainResult RunChain(const std::shared_ptr<grpc::Channel>& channel,
                     const v1::RunChainRequest& request) {
  ChainResult result;
  const auto stub = v1::ChainService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->RunChain(&context, request);
  v1::RunChainResponse response;
  uint64_t step = 0;
  while (reader->Read(&response)) {
    if (response.has_header()) {
      result.header = response.header();
      step = result.header.first_step();
    } else if (response.has_summary()) {
      result.summary = response.summary();
      EXPECT_EQ(response.summary().steps(), step);
    } else {
      EXPECT_EQ(response.block().first_step(), step);
      step += response.block().steps();
      AppendChainBlock(response.block(), &result);
      result.blocks.push_back(std::move(*response.mutable_block()));
    }
  }
  result.status = reader->Finish();
  return result;
}

Rounds RunChains(const std::shared_ptr<grpc::Channel>& channel,
                 const v1::RunChainRequest& request) {
  Rounds rounds;
  const auto stub = v1::ChainService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->RunChain(&context, request);
  v1::RunChainResponse response;
  while (reader->Read(&response)) {
    if (response.has_header()) rounds.header = response.header();
    if (response.has_summary()) rounds.summary = response.summary();
    if (response.has_block()) rounds.blocks.push_back(response.block());
  }
  rounds.status = reader->Finish();
  return rounds;
}

bool Eventually(const std::function<bool()>& condition) {
  const auto due = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < due) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return condition();
}

double MetricValue(const std::string& text, const std::string& series) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const size_t blank = line.rfind(' ');
    double value = 0;
    if (blank != absl::string_view::npos && line.substr(0, blank) == series &&
        absl::SimpleAtod(line.substr(blank + 1), &value)) {
      return value;
    }
  }
  return -1;
}

std::string HttpGet(int port, const std::string& path) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  const timeval timeout = {5, 0};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string reply;
  if (connect(connection, reinterpret_cast<sockaddr*>(&address),
              sizeof address) == 0) {
    const std::string request =
        absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: test\r\n\r\n");
    if (send(connection, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
      char buffer[4096];
      ssize_t size = 0;
      while ((size = recv(connection, buffer, sizeof buffer, 0)) > 0) {
        reply.append(buffer, static_cast<size_t>(size));
      }
    }
  }
  close(connection);
  return reply;
}

}  // namespace latticed
