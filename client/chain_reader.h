// A Markov chain that survives broken connections.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/block.h"
#include "client/call.h"
#include "client/retry.h"
#include "client/session.h"
#include "latticed/v1/chain.pb.h"

namespace latticed {

// Every step arrives once, in order; after a break the chain goes on from the
// last token received. Blocks of several chains come in rounds, chain 0 first,
// of the same steps each. Not thread-safe.
class ChainReader {
 public:
  ChainReader(std::shared_ptr<const Session> session,
              const v1::RunChainRequest& request);

  // False at the end; *block is then untouched. An error ends the stream:
  // what was returned before it stays valid, and token() continues after it.
  absl::StatusOr<bool> Next(StepBlock* block);

  // Valid once Next has returned true.
  const v1::ChainHeader& header() const { return header_; }
  // Continues after the last block returned; before the first one, where the
  // request began (empty for a new chain).
  const std::string& token() const { return token_; }
  uint32_t chains() const { return chains_; }
  // Of each chain, returned by this stream; in whole rounds.
  uint64_t steps() const { return steps_; }
  // Of all chains together.
  uint64_t accepted() const { return accepted_; }
  uint64_t non_finite() const { return non_finite_; }
  // Of any chain, in the steps of this stream.
  uint64_t longest_rejection_run() const { return longest_run_; }
  // Of the whole chain, token's past included; unset until Next returns false.
  const v1::ChainSummary& summary() const { return summary_; }
  int resumes() const { return resumes_; }

 private:
  void Open();
  // True: *block was filled.
  absl::StatusOr<bool> Take(const v1::RunChainResponse& message,
                            StepBlock* block);
  absl::Status TakeHeader(const v1::ChainHeader& header);
  absl::StatusOr<bool> TakeBlock(const v1::ChainBlock& message,
                                 StepBlock* block);

  std::shared_ptr<const Session> session_;
  const v1::RunChainRequest request_;
  Retry retry_;
  std::unique_ptr<MessageStream<v1::RunChainResponse>> call_;
  bool has_header_ = false;  // of this call
  bool begun_ = false;       // header_ is set
  bool done_ = false;
  BlockShape shape_;
  v1::ChainHeader header_;
  v1::ChainSummary summary_;
  std::string token_;
  uint64_t steps_ = 0;
  uint64_t accepted_ = 0;
  uint64_t non_finite_ = 0;
  uint32_t chains_ = 1;
  // Of the round at hand: blocks of this call, blocks ever returned, and their
  // steps. After a break the first ones come again.
  uint32_t arrived_ = 0;
  uint32_t returned_ = 0;
  uint64_t round_steps_ = 0;
  std::vector<uint64_t> run_;  // of rejections, of each chain
  uint64_t longest_run_ = 0;
  int resumes_ = 0;
  int damaged_ = 0;  // in a row
};

}  // namespace latticed
