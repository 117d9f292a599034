// One RunChain call.
#pragma once

#include "server/call.h"
#include "server/chain_walk.h"
#include "server/tokens.h"

namespace latticed {

class ChainStream final : public StreamCall {
 public:
  static constexpr uint64_t kStepsMax = uint64_t{1} << 40;
  static constexpr uint32_t kThinningMax = uint32_t{1} << 20;

  ChainStream(ContextRef context, grpc::CallbackServerContext* grpc_context)
      : StreamCall(std::move(context), grpc_context,
                   {"ChainService", "RunChain"}) {}

 private:
  grpc::Status Begin(const grpc::ByteBuffer& bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  bool Produce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  grpc::Status DrainStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;

  grpc::Status BeginNew(const v1::ChainStart& chain)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  grpc::Status BeginResumed(const std::string& token)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `count` draws from `first_index` on.
  grpc::Status Submit(uint64_t first_index, uint64_t count)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The configuration that the token's chain sits on has been drawn again.
  grpc::Status Recall(const Block& block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  VersionRef version_ ABSL_GUARDED_BY(mutex_);
  ChainState state_ ABSL_GUARDED_BY(mutex_);
  ChainSite site_ ABSL_GUARDED_BY(mutex_);
  uint64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t block_bytes_max_ ABSL_GUARDED_BY(mutex_) = 0;
  bool recalling_ ABSL_GUARDED_BY(mutex_) = false;
};

// The loaded version a token's chain belongs to. INVALID_ARGUMENT
// CHAIN_TOKEN_INVALID, FAILED_PRECONDITION VERSION_RETIRED.
grpc::Status OpenChain(const ServiceContext& context, const std::string& token,
                       ChainState* state, VersionRef* version);

}  // namespace latticed
