// A real server in the test's process and real clients of it, on loopback and
// free ports.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "latticed/v1/admin.grpc.pb.h"
#include "latticed/v1/chain.grpc.pb.h"
#include "latticed/v1/measure.grpc.pb.h"
#include "latticed/v1/model.grpc.pb.h"
#include "latticed/v1/sampler.grpc.pb.h"
#include "server/server.h"
#include "tests/server/toy_sampler.h"
#include "tests/support/temporary_directory.h"

namespace latticed {

Config TestConfig(const std::string& repository);

// Fails the test and returns null if the server does not start.
std::unique_ptr<Server> StartServer(const Config& config);

// A connection of its own, made. Without TLS.
std::shared_ptr<grpc::Channel> Connect(int port,
                                       grpc::ChannelArguments arguments = {});

// What came back with an error.
struct ErrorParts {
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad_request;
  std::optional<google::rpc::RetryInfo> retry;
};
ErrorParts PartsOf(const grpc::Status& status);

// "INVALID_ARGUMENT INVALID_FIELD"
std::string CodeAndReason(const grpc::Status& status);

// A whole stream, checked on the way: header first, blocks in order with a
// good CRC and the right sizes, at most one summary.
struct StreamResult {
  v1::Provenance header;
  std::vector<v1::VersionChange> changes;
  std::vector<v1::SampleBlock> blocks;
  std::optional<v1::WeightSummary> summary;
  grpc::Status status;

  // All finite draws, concatenated.
  std::vector<float> phi;
  std::vector<double> log_q;
  std::vector<double> action;
  std::vector<uint64_t> non_finite;  // indices
  uint64_t next_index = 0;           // after the last block
};
StreamResult Stream(const std::shared_ptr<grpc::Channel>& channel,
                    const v1::StreamSamplesRequest& request);
v1::StreamSamplesRequest DrawsOf(const std::string& model,
                                 const std::string& stream,
                                 uint64_t first_index, uint64_t count);

// The same of a chain, with its rows unrolled to kept configurations.
struct ChainResult {
  v1::ChainHeader header;
  std::vector<v1::ChainBlock> blocks;
  std::optional<v1::ChainSummary> summary;
  grpc::Status status;

  std::vector<uint64_t> index;    // draw of every kept configuration
  std::vector<uint64_t> updates;  // since that draw
  std::vector<float> phi;
  std::vector<double> log_q;
  std::string accept;  // '0' or '1' a step
  std::string token;   // the last one
};
// One block more, its CRC checked.
void AppendChainBlock(const v1::ChainBlock& block, ChainResult* result);
ChainResult RunChain(const std::shared_ptr<grpc::Channel>& channel,
                     const v1::RunChainRequest& request);

// Blocks of several chains, in the order they came.
struct Rounds {
  v1::ChainHeader header;
  std::vector<v1::ChainBlock> blocks;
  v1::ChainSummary summary;
  grpc::Status status;
};
Rounds RunChains(const std::shared_ptr<grpc::Channel>& channel,
                 const v1::RunChainRequest& request);

// True as soon as `condition` is, false after a minute: patience with
// sanitizers and busy cores, not a bound of anything.
bool Eventually(const std::function<bool()>& condition);

// Value of a series in a text exposition, or -1: "name" or "name{a=\"b\"}".
double MetricValue(const std::string& text, const std::string& series);

std::string HttpGet(int port, const std::string& path);

}  // namespace latticed
