// A real gRPC server with one small model and scripted faults.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/random/stream.h"
#include "grpcpp/server.h"
#include "grpcpp/server_context.h"
#include "latticed/v1/chain.grpc.pb.h"
#include "latticed/v1/model.grpc.pb.h"
#include "latticed/v1/sampler.grpc.pb.h"

namespace latticed::testing {

// The fake model "gauss": phi^4 with m^2 = 1, lambda = 0.1 on 4 x 4, drawn from
// independent normal deviates of variance kVariance per site. log q is exact
// and S is the true one, so the draws are valid, if poor, ones.
inline constexpr int64_t kLength = 4;
inline constexpr int64_t kSites = kLength * kLength;
inline constexpr double kVariance = 0.1;
inline constexpr double kMassSquared = 1;
inline constexpr double kLambda = 0.1;

struct FakeDraw {
  std::vector<float> phi;
  double log_q = 0;
  double action = 0;
};
FakeDraw DrawOf(const StreamId& stream, uint64_t index);

struct Faults {
  // Ends this many calls after `blocks_before_break` blocks each.
  int breaks = 0;
  int blocks_before_break = 1;
  grpc::Status break_status{grpc::StatusCode::UNAVAILABLE, "stopping"};
  // Sends this many blocks with a wrong CRC.
  int wrong_crcs = 0;
  // Ends OK after so many blocks, whatever was asked.
  std::optional<int> ends_early_after;
  // Refuses every call with this.
  std::optional<grpc::Status> refuse;
  // Another version (digest) answers from the second call on.
  bool switches_version = false;
  // Skips one draw at the start of the second block.
  bool skips_a_draw = false;
  // Draw `non_finite` of every stream is reported as not finite.
  std::optional<uint64_t> non_finite;
  // Waits before each block.
  int block_delay_ms = 0;
  // Stands still before the first block until the call is cancelled.
  bool hangs = false;
};

// Listens on a free port of 127.0.0.1 until destroyed. Thread-safe.
class FakeServer {
 public:
  explicit FakeServer(Faults faults = {}, int port = 0);
  ~FakeServer();

  // Ends every call at once, as a killed process would, and closes the port.
  void Stop();
  int port() const { return port_; }
  std::string target() const;
  int sample_calls() const { return sample_calls_; }
  int chain_calls() const { return chain_calls_; }
  // What the calls asked for, in order.
  std::vector<v1::StreamSamplesRequest> sample_requests() const;
  std::vector<v1::RunChainRequest> chain_requests() const;

  static std::string Digest(int version);

 private:
  class Sampler;
  class Chain;
  class Models;

  // False once the call is over.
  bool Pause(const Faults& faults, grpc::ServerContext* context);

  mutable std::mutex mutex_;
  Faults faults_;  // guarded by mutex_, as are the two below
  std::vector<v1::StreamSamplesRequest> sample_requests_;
  std::vector<v1::RunChainRequest> chain_requests_;
  std::atomic<int> sample_calls_ = 0;
  std::atomic<int> chain_calls_ = 0;
  std::atomic<bool> stopping_ = false;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<Chain> chain_;
  std::unique_ptr<Models> models_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// A status with ErrorInfo, and BadRequest or RetryInfo if given.
grpc::Status DetailedStatus(grpc::StatusCode code, const std::string& message,
                            const std::string& reason,
                            const std::string& field = "",
                            const std::string& description = "",
                            int retry_delay_ms = 0);

}  // namespace latticed::testing
