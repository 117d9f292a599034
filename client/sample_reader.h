// A stream of draws that survives broken connections.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/block.h"
#include "client/call.h"
#include "client/retry.h"
#include "client/session.h"
#include "core/stats/log_weights.h"
#include "latticed/v1/sampler.pb.h"

namespace latticed {

// Every index of the request arrives once, in order. A draw is a function of
// (digest, stream, index), so after a break the stream goes on at the index
// after the last one received, pinned to the digest and the stream it began
// with: the caller sees no difference. A model FOLLOWed may change its version
// instead. Not thread-safe.
class SampleReader {
 public:
  SampleReader(std::shared_ptr<const Session> session,
               const v1::StreamSamplesRequest& request);

  // False at the end; *block is then untouched. An error ends the stream:
  // what was returned before it stays valid.
  absl::StatusOr<bool> Next(DrawBlock* block);

  // Of the block returned last; before the first block, of the first header.
  const v1::Provenance& provenance() const { return provenances_.back(); }
  // One for each version the draws came from; empty before the first Next.
  const std::vector<v1::Provenance>& provenances() const {
    return provenances_;
  }
  // Of everything returned, if log q and the action were asked for.
  const WeightSums& weights() const { return weights_; }
  uint64_t received() const { return received_; }  // non-finite ones included
  uint64_t non_finite() const { return non_finite_; }
  int resumes() const { return resumes_; }

 private:
  enum class Outcome { kBlock, kOther };

  void Open();
  absl::StatusOr<Outcome> Take(v1::StreamSamplesResponse& message,
                               DrawBlock* block);
  absl::Status TakeProvenance(const v1::Provenance& provenance);
  absl::Status TakeBlock(const v1::SampleBlock& message, DrawBlock* block);
  absl::Status Recover(const absl::Status& error);

  std::shared_ptr<const Session> session_;
  const v1::StreamSamplesRequest request_;
  Retry retry_;
  std::unique_ptr<MessageStream<v1::StreamSamplesResponse>> call_;
  bool has_header_ = false;  // of this call
  bool done_ = false;
  BlockShape shape_;
  std::vector<v1::Provenance> provenances_;
  WeightSums weights_;
  uint64_t received_ = 0;
  uint64_t non_finite_ = 0;
  int resumes_ = 0;
  int damaged_ = 0;  // in a row
};

// The first eight bytes of a digest in hex, as blocks carry it.
uint64_t DigestPrefix(absl::string_view digest);

}  // namespace latticed
