#include "server/chain_stream.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/chain_update.h"
#include "server/codec.h"
#include "server/errors.h"

namespace latticed {
namespace {

// Mean over chains, errors in quadrature; none unless every chain has one.
std::optional<Estimate> MeanTau(
    const std::vector<const BinnedSeries*>& series) {
  Estimate mean;
  const double count = static_cast<double>(series.size());
  for (const BinnedSeries* one : series) {
    const Estimate tau = one->TauInt();
    mean.value += tau.value / count;
    mean.error = std::hypot(mean.error, tau.error / count);
  }
  if (!std::isfinite(mean.error)) return std::nullopt;
  return mean;
}

}  // namespace

grpc::Status OpenChains(const ServiceContext& context, const std::string& token,
                        ChainSet* chains, VersionRef* version) {
  if (!OpenToken(context.token_key, token, chains)) {
    return Error(grpc::StatusCode::INVALID_ARGUMENT, "CHAIN_TOKEN_INVALID",
                 "token: is not one that this server's key sealed; pass on "
                 "the bytes of a ChainBlock or ChainSummary unchanged, to a "
                 "replica with the same --chain_token_key_file")
        .Field("token", "is not one that this server's key sealed");
  }
  *version = context.store->LoadedByDigest(chains->front().digest);
  if (*version != nullptr) return grpc::Status::OK;
  if (context.store->Starting("")) {
    return Error(grpc::StatusCode::UNAVAILABLE, "NO_LIVE_VERSION",
                 absl::StrCat("the chain belongs to digest ",
                              chains->front().digest,
                              ", which is not loaded yet: the server has just "
                              "started; try again in a moment"))
        .With("digest", chains->front().digest)
        .RetryAfter(std::chrono::seconds(1));
  }
  const std::string live = LiveVersions(*context.store);
  return Error(grpc::StatusCode::FAILED_PRECONDITION, "VERSION_RETIRED",
               absl::StrCat("the chain belongs to digest ",
                            chains->front().digest,
                            ", which is not loaded; live are ", live,
                            "; start a new chain, or continue on a server "
                            "that has it"))
      .With("digest", chains->front().digest)
      .With("live", live);
}

grpc::Status ChainStream::BeginNew(const v1::ChainStart& chain) {
  if (chain.model().policy() == v1::VERSION_POLICY_FOLLOW) {
    return InvalidField("chain.model.policy",
                        "is FOLLOW, but a chain has one target: use PINNED");
  }
  if (chain.chains() > kChainsMax) {
    return InvalidField(
        "chain.chains",
        absl::StrCat("is ", chain.chains(), "; allowed are 1 to ", kChainsMax,
                     ", so make several calls"));
  }
  ChainState state;
  grpc::Status status = SelectContent(chain.content(), &state.content);
  if (!status.ok()) return status;
  if (chain.thinning() > kThinningMax) {
    return InvalidField("chain.thinning",
                        absl::StrCat("is ", chain.thinning(),
                                     "; allowed are 1 to ", kThinningMax));
  }
  state.thinning = chain.thinning() == 0 ? 1 : chain.thinning();
  status = SelectVersion(*context_->store, chain.model(), &version_);
  if (!status.ok()) return status;
  state.digest = version_->digest;
  status = CheckExpected(
      *version_,
      chain.has_expected_action() ? &chain.expected_action() : nullptr,
      chain.has_expected_lattice() ? &chain.expected_lattice() : nullptr,
      context_->couplings);
  if (!status.ok()) return status;
  if (chain.has_update()) {
    status = UpdateAction(*version_, context_->couplings, &action_);
    if (status.ok()) {
      status = SelectUpdate(chain.update(), std::max(1u, chain.chains()),
                            *action_, &state);
    }
    if (!status.ok()) return status;
  }
  StreamId first;
  status = SelectStream(chain.has_stream(), chain.stream(), &first);
  if (!status.ok()) return status;
  chains_.resize(chain.chains() == 0 ? 1 : chain.chains());
  for (size_t c = 0; c < chains_.size(); ++c) {
    chains_[c].state = state;
    chains_[c].state.stream =
        c == 0 ? first : StreamOfChain(first, static_cast<uint32_t>(c));
  }
  return status;
}

grpc::Status ChainStream::BeginResumed(const std::string& token) {
  ChainSet set;
  grpc::Status status = OpenChains(*context_, token, &set, &version_);
  if (status.ok() && set.front().update_interval > 0) {
    status = UpdateAction(*version_, context_->couplings, &action_);
  }
  if (!status.ok()) return status;
  chains_.resize(set.size());
  for (size_t c = 0; c < set.size(); ++c) {
    const size_t sites = set[c].phi.size();
    if (sites > 0 && sites != static_cast<size_t>(version_->lattice.Sites())) {
      return Error(grpc::StatusCode::INVALID_ARGUMENT, "CHAIN_TOKEN_INVALID",
                   "token: its configuration is not one of this lattice");
    }
    chains_[c].state = set[c];
  }
  return status;
}

grpc::Status ChainStream::Begin(const grpc::ByteBuffer& bytes) {
  v1::RunChainRequest request;
  grpc::Status status =
      Decode(bytes, &request, kTokenBytesMax + kRequestBytesMax);
  if (status.ok() && !request.has_token()) status = CheckSize(bytes.Length());
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
  const ChainState& first = chains_[0].state;
  steps_ = request.steps();
  // Chains share the memory of one, down to the smallest block each.
  block_bytes_max_ =
      static_cast<uint32_t>(CoerceBlockBytes(request.block_bytes_max()) /
                            static_cast<int64_t>(chains_.size()));
  status = CheckRange("steps", first.step, steps_, kStepsMax);
  if (!status.ok()) return status;
  next_index_ = first.step;
  for (Chain& chain : chains_) {
    chain.recalling = chain.state.started;
    if (!chain.recalling) {
      status = Submit(chain.state.step, steps_, &chain);
    } else if (chain.state.updates == 0) {
      status = Submit(chain.state.index, 1, &chain);
    } else {
      status = Evaluate(chain.state.phi, /*has_place=*/false, &chain.job);
    }
    if (!status.ok()) {
      CancelDraws();
      return status;
    }
  }

  v1::RunChainResponse header;
  *header.mutable_header()->mutable_provenance() =
      MakeProvenance(*version_, first.stream, first.step);
  header.mutable_header()->set_first_step(first.step);
  header.mutable_header()->set_thinning(first.thinning);
  header.mutable_header()->set_chains(static_cast<uint32_t>(chains_.size()));
  for (const Chain& chain : chains_) {
    header.mutable_header()->add_stream_id(chain.state.stream.Bytes());
  }
  if (first.update_interval > 0) {
    *header.mutable_header()->mutable_update() = UpdateMessage(first);
  }
  outbox_.push_back({.message = Encode(header)});
  return status;
}

void ChainStream::CancelDraws() {
  for (Chain& chain : chains_) {
    if (chain.job != nullptr) chain.job->Cancel();
    if (chain.evaluation != nullptr) chain.evaluation->Cancel();
  }
}

grpc::Status ChainStream::Submit(uint64_t first_index, uint64_t count,
                                 Chain* chain) {
  DrawRequest draws;
  draws.version = version_;
  draws.stream = chain->state.stream;
  draws.first_index = first_index;
  draws.count = count;
  // By what is drawn, not by what is sent: blocks end where they would if
  // nothing had been rejected. CoerceBlockBytes keeps the share of many chains
  // from becoming too small.
  BlockContent drawn = chain->state.content;
  drawn.phi = drawn.phi || chain->state.update_interval > 0;
  draws.block_draws = BlockDraws(*version_, drawn, block_bytes_max_);
  draws.phi = drawn.phi;
  draws.peer = peer_;
  draws.on_block = AdvanceLater();
  chain->job = nullptr;  // leaves its place to the next
  return context_->scheduler->Submit(std::move(draws), &chain->job);
}

grpc::Status ChainStream::Evaluate(const std::vector<float>& phi,
                                   bool has_place,
                                   std::unique_ptr<DrawJob>* job) {
  DrawRequest draws;
  draws.version = version_;
  draws.count = 1;
  draws.block_draws = 1;
  draws.phi = false;
  draws.given = std::make_shared<const std::vector<float>>(phi);
  draws.peer = peer_;
  draws.has_place = has_place;
  draws.on_block = AdvanceLater();
  return context_->scheduler->Submit(std::move(draws), job);
}

grpc::Status ChainStream::Recall(const Block& block, Chain* chain) {
  const ChainState& state = chain->state;
  const double log_w = -block.action()[0] - block.log_q()[0];
  if (std::bit_cast<uint64_t>(log_w) != std::bit_cast<uint64_t>(state.log_w)) {
    return Error(grpc::StatusCode::FAILED_PRECONDITION, "NUMERICS_MISMATCH",
                 absl::StrCat("draw ", state.index, " after ", state.updates,
                              " updates, which the chain sits "
                              "on, has log weight ",
                              log_w, " here and ", state.log_w,
                              " in the token: this server (",
                              version_->numerics_mode,
                              ") computes other bits; continue on a replica "
                              "of the same build and device kind"))
        .With("numerics_mode", version_->numerics_mode)
        .With("digest", version_->digest);
  }
  chain->site.log_q = block.log_q()[0];
  chain->site.action = block.action()[0];
  if (state.updates > 0) {
    chain->site.phi = state.phi;
  } else if (block.has_phi) {
    chain->site.phi.assign(block.phi().begin(), block.phi().end());
  }
  chain->recalling = false;
  return Submit(state.step, steps_, chain);
}

std::string ChainStream::Token() const {
  ChainSet set;
  for (const Chain& chain : chains_) set.push_back(chain.state);
  return SealToken(context_->token_key, set);
}

void ChainStream::BeginUpdate(size_t c) {
  Chain& chain = chains_[c];
  chain.updating = true;
  context_->executor->Post(
      [weak = weak_from_this(), c, action = *action_,
       update = chain.state.update, stream = chain.state.stream,
       step = chain.state.step, phi = chain.site.phi]() mutable {
        const auto call = weak.lock();
        if (call == nullptr) return;
        const double acceptance = UpdateConfiguration(
            update, action, stream, step, absl::MakeSpan(phi));
        static_cast<ChainStream&>(*call).Updated(c, std::move(phi), acceptance);
      });
}

void ChainStream::Updated(size_t c, std::vector<float> phi, double acceptance) {
  {
    MutexLock lock(mutex_);
    if (Ending()) return;
    Chain& chain = chains_[c];
    chain.updating = false;
    chain.monitor.update_acceptance += acceptance;
    chain.updated.phi = std::move(phi);
    const grpc::Status status =
        Evaluate(chain.updated.phi, /*has_place=*/true, &chain.evaluation);
    if (!status.ok()) end_ = status;
  }
  Advance();
}

grpc::Status ChainStream::WalkOn(size_t c) {
  Chain& chain = chains_[c];
  while (!chain.walked && !chain.updating) {
    DrawJob& job = chain.evaluation != nullptr ? *chain.evaluation : *chain.job;
    if (chain.walk == nullptr || chain.evaluation != nullptr) {
      std::unique_ptr<Block> block = job.Pop();
      if (block == nullptr) return job.Failure();
      if (chain.recalling) {
        grpc::Status status = Recall(*block, &chain);
        if (!status.ok()) return status;
        continue;
      }
      if (chain.evaluation != nullptr) {
        chain.updated.log_q = block->log_q()[0];
        chain.updated.action = block->action()[0];
        chain.walk->UpdateDone(std::move(chain.updated));
        chain.evaluation = nullptr;
      } else {
        chain.walk = std::make_unique<BlockWalk>(std::move(block), &chain.state,
                                                 &chain.site, &chain.monitor);
      }
    }
    chain.walked = chain.walk->Advance();
    if (!chain.walked) BeginUpdate(c);
  }
  return grpc::Status::OK;
}

void ChainStream::PushBlock() {
  Chain& chain = chains_[turn_];
  const std::unique_ptr<BlockWalk> walk = std::move(chain.walk);
  chain.walked = false;
  const Block& block = walk->block();
  ChainSteps steps = walk->Finish();
  Metrics& metrics = *context_->metrics;
  metrics.Weights(version_->model, version_->version, steps.proposals);
  metrics.NonFinite(version_->model, "log_q", steps.non_finite_log_q);
  metrics.NonFinite(version_->model, "action", steps.non_finite_action);
  metrics.Chain(version_->model, block.count, steps.block.accepted());
  metrics.RejectionRuns(version_->model, steps.rejection_runs);
  steps.block.set_chain(static_cast<uint32_t>(turn_));
  turn_ = (turn_ + 1) % chains_.size();
  if (turn_ == 0) steps.block.set_token(Token());
  const size_t in_place =
      static_cast<size_t>(steps.rows_in_place * version_->lattice.Sites());
  const PayloadField phi = {15, BytesOf(absl::MakeConstSpan(steps.carried_phi)),
                            chain.state.content.phi
                                ? BytesOf(block.phi().first(in_place))
                                : absl::string_view()};
  // Whoever goes on does so from the last whole round.
  outbox_.push_back(
      {.message = EncodeBlock(steps.block, {&phi, 1}, block.memory),
       .model = version_->model,
       .draws = block.count,
       .memory = block.memory,
       .next_index =
           turn_ == 0 ? chain.state.step
                      : chain.state.step - static_cast<uint64_t>(block.count)});
}

void ChainStream::PushSummary() {
  v1::RunChainResponse response;
  v1::ChainSummary& summary = *response.mutable_summary();
  uint64_t accepted = 0;
  uint64_t non_finite = 0;
  uint64_t longest = 0;
  std::vector<const BinnedSeries*> action;
  std::vector<const BinnedSeries*> abs_m;
  for (const Chain& chain : chains_) {
    action.push_back(&chain.monitor.action);
    abs_m.push_back(&chain.monitor.abs_m);
    accepted += chain.state.accepted;
    non_finite += chain.state.non_finite;
    longest = std::max(longest, chain.state.longest_rejection_run);
  }
  summary.set_steps(chains_[0].state.step);
  summary.set_accepted(accepted);
  summary.set_non_finite(non_finite);
  summary.set_longest_rejection_run(longest);
  summary.set_token(Token());
  uint64_t updates = 0;
  double update_acceptance = 0;
  for (const Chain& chain : chains_) {
    updates += chain.monitor.updates;
    update_acceptance += chain.monitor.update_acceptance;
  }
  summary.set_updates(updates);
  if (updates > 0) {
    summary.set_update_acceptance(update_acceptance /
                                  static_cast<double>(updates));
  }
  if (const auto tau = MeanTau(action)) {
    summary.set_tau_int_action(tau->value);
    summary.set_tau_int_action_error(tau->error);
  }
  if (const auto tau = MeanTau(abs_m)) {
    summary.set_tau_int_abs_m(tau->value);
    summary.set_tau_int_abs_m_error(tau->error);
  }
  outbox_.push_back({.message = Encode(response)});
}

bool ChainStream::Produce() {
  // Those whose blocks of this round are out wait: the round's token is of all
  // chains at one step.
  for (size_t c = turn_; c < chains_.size(); ++c) {
    const grpc::Status status = WalkOn(c);
    if (!status.ok()) {
      end_ = status;
      return true;
    }
  }
  const Chain& chain = chains_[turn_];
  if (chain.walked) {
    PushBlock();
    return true;
  }
  // Chains end in turn, each with its last block: when it is the first one's
  // turn again and it is done, all are.
  if (chain.recalling || chain.walk != nullptr || !chain.job->Done()) {
    return false;
  }
  PushSummary();
  end_ = grpc::Status::OK;
  return true;
}

grpc::Status ChainStream::DrainStatus() {
  return Error(grpc::StatusCode::UNAVAILABLE, "DRAINING",
               absl::StrCat("the server is stopping; call again with the "
                            "last token you have (this one sent the steps "
                            "before ",
                            next_index_, ")"))
      .With("next_step", next_index_)
      .With("digest", chains_.empty() ? "" : chains_[0].state.digest)
      .RetryAfter(std::chrono::seconds(1));
}

}  // namespace latticed
