// What the calls of one client share.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/credentials.h"
#include "client/retry.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "latticed/v1/admin.grpc.pb.h"
#include "latticed/v1/chain.grpc.pb.h"
#include "latticed/v1/measure.grpc.pb.h"
#include "latticed/v1/model.grpc.pb.h"
#include "latticed/v1/sampler.grpc.pb.h"

namespace latticed {

struct ClientOptions {
  RetryPolicy retry;
  // Of a call with one reply.
  absl::Duration deadline = absl::Seconds(30);
  // A stream that is silent for so long counts as broken and is resumed.
  absl::Duration silence_max = absl::Seconds(120);
  // Set from anywhere, a signal handler included, it ends every call within
  // about 50 ms with CANCELLED. Must outlive the client and its streams.
  const std::atomic<bool>* cancelled = nullptr;
  // Told about every retry before its wait, from the calling thread.
  Retry::Notify on_retry;
  std::string user_agent = "latticed-client";
  TlsOptions tls;
  // Holds the token that every call shows. Never sent without TLS to another
  // machine.
  std::string token_file;
};

// Immutable, thread-safe.
struct Session {
  std::string target;
  ClientOptions options;
  std::string authorization;  // "Bearer ...", or empty
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::SamplerService::Stub> sampler;
  std::unique_ptr<v1::ChainService::Stub> chain;
  std::unique_ptr<v1::ModelService::Stub> model;
  std::unique_ptr<v1::MeasureService::Stub> measure;
  std::unique_ptr<v1::AdminService::Stub> admin;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;

  // Of every call, before it starts.
  void Prepare(grpc::ClientContext* context) const {
    if (!authorization.empty()) {
      context->AddMetadata("authorization", authorization);
    }
  }
  Retry NewRetry() const {
    return Retry(options.retry, options.cancelled, options.on_retry, channel);
  }
  // Says which server it was when a call failed for want of one.
  absl::Status Explain(const absl::Status& status) const;
};

}  // namespace latticed
