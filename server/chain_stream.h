// One RunChain call: one chain or several.
#pragma once

#include <memory>
#include <optional>
#include <vector>

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
  struct Chain {
    ChainState state;
    ChainSite site;
    ChainMonitor monitor;
    std::unique_ptr<DrawJob> job;
    // Draws or evaluates again what the token's chain sits on, before it goes
    // on.
    bool recalling = false;
    std::unique_ptr<BlockWalk> walk;  // of the block at hand
    bool walked = false;              // to its end: waits for its turn
    // An update is being made, then log q and S of where it led to are found.
    bool updating = false;
    std::unique_ptr<DrawJob> evaluation;
    ChainSite updated;
  };

  grpc::Status Begin(const grpc::ByteBuffer& bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  bool Produce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  grpc::Status DrainStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;
  void CancelDraws() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) override;

  grpc::Status BeginNew(const v1::ChainStart& chain)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  grpc::Status BeginResumed(const std::string& token)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `count` draws of the chain's stream from `first_index` on.
  grpc::Status Submit(uint64_t first_index, uint64_t count, Chain* chain)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Log q and S of `phi`; in the place of a chain that draws already, or not.
  grpc::Status Evaluate(const std::vector<float>& phi, bool has_place,
                        std::unique_ptr<DrawJob>* job)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  grpc::Status Recall(const Block& block, Chain* chain)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The update itself is made without the lock, on a thread of the executor.
  void BeginUpdate(size_t chain) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Updated(size_t chain, std::vector<float> phi, double acceptance)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes the chain on as far as draws, updates and evaluations are there, at
  // most to the end of its block.
  grpc::Status WalkOn(size_t chain) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PushBlock() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PushSummary() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Token() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  VersionRef version_ ABSL_GUARDED_BY(mutex_);
  std::optional<Phi4> action_ ABSL_GUARDED_BY(mutex_);  // set with an update
  std::vector<Chain> chains_ ABSL_GUARDED_BY(mutex_);
  size_t turn_ ABSL_GUARDED_BY(mutex_) = 0;  // whose block comes next
  uint64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t block_bytes_max_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The loaded version a token's chains belong to. INVALID_ARGUMENT
// CHAIN_TOKEN_INVALID, FAILED_PRECONDITION VERSION_RETIRED.
grpc::Status OpenChains(const ServiceContext& context, const std::string& token,
                        ChainSet* chains, VersionRef* version);

}  // namespace latticed
