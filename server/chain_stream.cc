#include "server/chain_stream.h"

#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/codec.h"
#include "server/errors.h"

namespace latticed {

grpc::Status OpenChain(const ServiceContext& context, const std::string& token,
                       ChainState* state, VersionRef* version) {
  if (!OpenToken(context.token_key, token, state)) {
    return Error(grpc::StatusCode::INVALID_ARGUMENT, "CHAIN_TOKEN_INVALID",
                 "token: is not one that this server's key sealed; pass on "
                 "the bytes of a ChainBlock or ChainSummary unchanged, to a "
                 "replica with the same --chain_token_key_file")
        .Field("token", "is not one that this server's key sealed");
  }
  *version = context.store->LoadedByDigest(state->digest);
  if (*version != nullptr) return grpc::Status::OK;
  const std::string live = LiveVersions(*context.store);
  return Error(grpc::StatusCode::FAILED_PRECONDITION, "VERSION_RETIRED",
               absl::StrCat("the chain belongs to digest ", state->digest,
                            ", which is not loaded; live are ", live,
                            "; start a new chain, or continue on a server "
                            "that has it"))
      .With("digest", state->digest)
      .With("live", live);
}

grpc::Status ChainStream::BeginNew(const v1::ChainStart& chain) {
  if (chain.model().policy() == v1::VERSION_POLICY_FOLLOW) {
    return InvalidField("chain.model.policy",
                        "is FOLLOW, but a chain has one target: use PINNED");
  }
  grpc::Status status = SelectContent(chain.content(), &state_.content);
  if (!status.ok()) return status;
  if (chain.thinning() > kThinningMax) {
    return InvalidField("chain.thinning",
                        absl::StrCat("is ", chain.thinning(),
                                     "; allowed are 1 to ", kThinningMax));
  }
  state_.thinning = chain.thinning() == 0 ? 1 : chain.thinning();
  status = SelectVersion(*context_->store, chain.model(), &version_);
  if (!status.ok()) return status;
  state_.digest = version_->digest;
  status = CheckExpected(
      *version_,
      chain.has_expected_action() ? &chain.expected_action() : nullptr,
      chain.has_expected_lattice() ? &chain.expected_lattice() : nullptr,
      context_->couplings);
  if (!status.ok()) return status;
  return SelectStream(chain.has_stream(), chain.stream(), &state_.stream);
}

grpc::Status ChainStream::BeginResumed(const std::string& token) {
  return OpenChain(*context_, token, &state_, &version_);
}

grpc::Status ChainStream::Begin(const grpc::ByteBuffer& bytes) {
  v1::RunChainRequest request;
  grpc::Status status = Decode(bytes, &request);
  if (!status.ok()) return status;
  switch (request.start_case()) {
    case v1::RunChainRequest::kChain:
      status = BeginNew(request.chain());
      break;
    case v1::RunChainRequest::kToken:
      status = BeginResumed(request.token());
      break;
    case v1::RunChainRequest::START_NOT_SET:
      status = InvalidField("start",
                            "is required: chain for a new one, token to "
                            "continue one");
  }
  if (!status.ok()) return status;
  steps_ = request.steps();
  block_bytes_max_ = request.block_bytes_max();
  status = CheckRange("steps", state_.step, steps_, kStepsMax);
  if (!status.ok()) return status;
  next_index_ = state_.step;
  recalling_ = state_.started;
  status = recalling_ ? Submit(state_.index, 1) : Submit(state_.step, steps_);
  if (!status.ok()) return status;

  v1::RunChainResponse header;
  *header.mutable_header()->mutable_provenance() =
      MakeProvenance(*version_, state_.stream, state_.step);
  header.mutable_header()->set_first_step(state_.step);
  header.mutable_header()->set_thinning(state_.thinning);
  outbox_.push_back({.message = Encode(header)});
  return status;
}

grpc::Status ChainStream::Submit(uint64_t first_index, uint64_t count) {
  DrawRequest draws;
  draws.version = version_;
  draws.stream = state_.stream;
  draws.first_index = first_index;
  draws.count = count;
  // By what is drawn, not by what is sent: blocks end where they would if
  // nothing had been rejected.
  draws.block_draws = BlockDraws(*version_, state_.content, block_bytes_max_);
  draws.phi = state_.content.phi;
  draws.peer = peer_;
  draws.on_block = AdvanceLater();
  job_ = nullptr;  // leaves its place to the next
  return context_->scheduler->Submit(std::move(draws), &job_);
}

grpc::Status ChainStream::Recall(const Block& block) {
  const double log_w = -block.action()[0] - block.log_q()[0];
  if (std::bit_cast<uint64_t>(log_w) != std::bit_cast<uint64_t>(state_.log_w)) {
    return Error(grpc::StatusCode::FAILED_PRECONDITION, "NUMERICS_MISMATCH",
                 absl::StrCat("draw ", state_.index,
                              ", which the chain sits "
                              "on, has log weight ",
                              log_w, " here and ", state_.log_w,
                              " in the token: this server (",
                              version_->numerics_mode,
                              ") computes other bits; continue on a replica "
                              "of the same build and device kind"))
        .With("numerics_mode", version_->numerics_mode)
        .With("digest", version_->digest);
  }
  site_.log_q = block.log_q()[0];
  site_.action = block.action()[0];
  if (block.has_phi) {
    site_.phi.assign(block.phi().begin(), block.phi().end());
  }
  recalling_ = false;
  return Submit(state_.step, steps_);
}

bool ChainStream::Produce() {
  std::unique_ptr<Block> block = job_->Pop();
  if (block == nullptr) {
    if (job_->Done()) {
      v1::RunChainResponse response;
      v1::ChainSummary& summary = *response.mutable_summary();
      summary.set_steps(state_.step);
      summary.set_accepted(state_.accepted);
      summary.set_non_finite(state_.non_finite);
      summary.set_longest_rejection_run(state_.longest_rejection_run);
      summary.set_token(SealToken(context_->token_key, state_));
      outbox_.push_back({.message = Encode(response)});
      end_ = grpc::Status::OK;
      return true;
    }
    const grpc::Status failure = job_->Failure();
    if (!failure.ok()) end_ = failure;
    return false;
  }
  if (recalling_) {
    const grpc::Status status = Recall(*block);
    if (!status.ok()) end_ = status;
    return status.ok();
  }
  ChainSteps steps = WalkBlock(*block, &state_, &site_);
  Metrics& metrics = *context_->metrics;
  metrics.Weights(version_->model, version_->version, steps.proposals);
  metrics.NonFinite(version_->model, "log_q", steps.non_finite_log_q);
  metrics.NonFinite(version_->model, "action", steps.non_finite_action);
  metrics.Chain(version_->model, block->count, steps.block.accepted());
  steps.block.set_token(SealToken(context_->token_key, state_));
  const size_t in_place =
      static_cast<size_t>(steps.rows_in_place * version_->lattice.Sites());
  const PayloadField phi = {15, BytesOf(absl::MakeConstSpan(steps.carried_phi)),
                            state_.content.phi
                                ? BytesOf(block->phi().first(in_place))
                                : absl::string_view()};
  outbox_.push_back(
      {.message = EncodeBlock(steps.block, {&phi, 1}, block->memory),
       .model = version_->model,
       .draws = block->count,
       .next_index = state_.step});
  return true;
}

grpc::Status ChainStream::DrainStatus() {
  return Error(grpc::StatusCode::UNAVAILABLE, "DRAINING",
               absl::StrCat("the server is stopping; call again with the "
                            "token of the last block you have (this one sent "
                            "the steps before ",
                            next_index_, ")"))
      .With("next_step", next_index_)
      .With("digest", state_.digest)
      .RetryAfter(std::chrono::seconds(1));
}

}  // namespace latticed
