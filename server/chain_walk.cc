#include "server/chain_walk.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/random/stream.h"
#include "core/stats/metropolis.h"
#include "core/wire/block.h"
#include "core/wire/crc32c.h"

namespace latticed {
namespace {

double AbsMean(absl::Span<const float> phi) {
  double sum = 0;
  for (const float x : phi) sum += x;
  return std::abs(sum) / static_cast<double>(phi.size());
}

}  // namespace

BlockWalk::BlockWalk(std::unique_ptr<Block> block, ChainState* state,
                     ChainSite* site, ChainMonitor* monitor)
    : block_(std::move(block)),
      state_(state),
      site_(site),
      monitor_(monitor),
      sites_(static_cast<size_t>(block_->version->lattice.Sites())),
      accept_(static_cast<size_t>((block_->count + 7) / 8), '\0') {
  steps_.block.set_first_step(state->step);
  steps_.block.set_steps(static_cast<uint32_t>(block_->count));
  Propose();
}

void BlockWalk::Propose() {
  for (int64_t i = 0; i < block_->count; ++i) {
    const size_t at = static_cast<size_t>(i);
    const double log_q = block_->log_q()[at];
    const double action = block_->action()[at];
    steps_.non_finite_log_q += std::isfinite(log_q) ? 0 : 1;
    steps_.non_finite_action += std::isfinite(action) ? 0 : 1;
    // Not a number is never accepted, whatever is wrong with the draw: an
    // action of +inf with a log q of -inf must not pass for a good weight.
    const bool finite = std::isfinite(log_q) && std::isfinite(action);
    log_w_.push_back(finite ? -action - log_q : std::nan(""));
    steps_.proposals.Add(log_w_.back());
    log_u_.push_back(std::log(
        Uniform(state_->stream, block_->first_index + static_cast<uint64_t>(i),
                Purpose::kAccept)));
  }
}

bool BlockWalk::Advance() {
  const uint64_t interval = state_->update_interval;
  while (next_ < block_->count) {
    int64_t end = block_->count;
    if (interval > 0) {
      const uint64_t past = state_->step % interval;
      if (past == 0 && state_->started && !updated_) return false;
      end = static_cast<int64_t>(
          std::min(static_cast<uint64_t>(end),
                   static_cast<uint64_t>(next_) + interval - past));
    }
    WalkTo(end);
    updated_ = false;
  }
  return true;
}

void BlockWalk::UpdateDone(ChainSite updated) {
  updated_ = true;
  monitor_->updates += 1;
  const double log_w = -updated.action - updated.log_q;
  if (!std::isfinite(log_w)) {
    // Not among the metrics of draws: which updates there are a client decides.
    steps_.block.set_non_finite(steps_.block.non_finite() + 1);
    state_->non_finite += 1;
    return;
  }
  *site_ = std::move(updated);
  state_->log_w = log_w;
  state_->updates += 1;
  state_->phi = site_->phi;
  row_is_current_ = false;
}

void BlockWalk::Keep(int64_t position) {
  if (!row_is_current_) {
    row_is_current_ = true;
    rows_.push_back({position, state_->index, state_->updates, site_->log_q,
                     site_->action});
    if (position < 0 && state_->content.phi) {
      steps_.carried_phi.insert(steps_.carried_phi.end(), site_->phi.begin(),
                                site_->phi.end());
    }
  }
  kept_.push_back(static_cast<uint32_t>(rows_.size() - 1));
}

// Leaves phi behind: WalkTo takes that of its last configuration only.
void BlockWalk::MoveTo(int64_t position) {
  const size_t at = static_cast<size_t>(position);
  accept_[at / 8] |= static_cast<char>(1 << (at % 8));
  if (state_->rejection_run > 0) {
    steps_.rejection_runs.push_back(state_->rejection_run);
  }
  state_->rejection_run = 0;
  state_->started = true;
  state_->index = block_->first_index + static_cast<uint64_t>(position);
  state_->log_w = log_w_[at];
  state_->updates = 0;
  state_->phi.clear();
  site_->log_q = block_->log_q()[at];
  site_->action = block_->action()[at];
  row_is_current_ = false;
}

void BlockWalk::WalkTo(int64_t end) {
  const size_t first = static_cast<size_t>(next_);
  const size_t count = static_cast<size_t>(end - next_);
  const Walk walk =
      AcceptReject(state_->started ? state_->log_w
                                   : -std::numeric_limits<double>::infinity(),
                   absl::MakeConstSpan(log_w_).subspan(first, count),
                   absl::MakeConstSpan(log_u_).subspan(first, count));
  const auto phi_of = [&](int64_t position) {
    return block_->phi().subspan(static_cast<size_t>(position) * sites_,
                                 sites_);
  };
  double abs_m = block_->has_phi && state_->started ? AbsMean(site_->phi) : 0;
  int64_t position = -1;  // of the configuration the chain sits on
  for (size_t i = 0; i < count; ++i) {
    const int64_t here = next_ + static_cast<int64_t>(i);
    if (walk.index[i] == static_cast<int64_t>(i)) {
      position = here;
      MoveTo(position);
      if (block_->has_phi) abs_m = AbsMean(phi_of(position));
    } else {
      state_->rejection_run += 1;
      state_->longest_rejection_run =
          std::max(state_->longest_rejection_run, state_->rejection_run);
    }
    if (state_->started) {
      monitor_->action.Add(site_->action);
      if (block_->has_phi) monitor_->abs_m.Add(abs_m);
      if (state_->step % state_->thinning == 0) Keep(position);
    }
    state_->step += 1;
  }
  if (position >= 0 && block_->has_phi) {
    site_->phi.assign(phi_of(position).begin(), phi_of(position).end());
  }
  state_->accepted += static_cast<uint64_t>(walk.accepted);
  state_->non_finite += static_cast<uint64_t>(walk.non_finite);
  steps_.block.set_accepted(steps_.block.accepted() +
                            static_cast<uint32_t>(walk.accepted));
  steps_.block.set_non_finite(steps_.block.non_finite() +
                              static_cast<uint32_t>(walk.non_finite));
  next_ = end;
}

ChainSteps BlockWalk::Finish() {
  v1::ChainBlock& out = steps_.block;
  out.set_accept(std::move(accept_));
  // Carried rows first, as the payload has them; each kind in its order.
  std::vector<uint32_t> place(rows_.size());
  std::vector<const Row*> ordered;
  for (const bool carried : {true, false}) {
    for (size_t r = 0; r < rows_.size(); ++r) {
      if ((rows_[r].position < 0) != carried) continue;
      place[r] = static_cast<uint32_t>(ordered.size());
      ordered.push_back(&rows_[r]);
    }
  }
  for (const uint32_t row : kept_) out.add_row(place[row]);

  const bool phi = state_->content.phi;
  std::vector<double> log_q;
  std::vector<double> action;
  for (const Row* row : ordered) {
    out.add_index(row->index);
    if (state_->update_interval > 0) out.add_updates(row->updates);
    log_q.push_back(row->log_q);
    action.push_back(row->action);
    if (row->position < 0 || !phi) continue;
    const size_t from = static_cast<size_t>(row->position) * sites_;
    const size_t to = static_cast<size_t>(steps_.rows_in_place++) * sites_;
    if (from != to) {
      std::copy_n(&block_->phi()[from], sites_, &block_->phi()[to]);
    }
  }
  if (state_->content.log_q) {
    out.set_log_q(std::string(BytesOf(absl::MakeConstSpan(log_q))));
  }
  if (state_->content.action) {
    out.set_action(std::string(BytesOf(absl::MakeConstSpan(action))));
  }
  const auto in_place =
      block_->phi().first(static_cast<size_t>(steps_.rows_in_place) * sites_);
  const uint32_t crc =
      BlockCrc32c(out.log_q(), out.action(),
                  BytesOf(absl::MakeConstSpan(steps_.carried_phi)));
  out.set_crc32c(Crc32c(BytesOf(in_place), crc));
  return std::move(steps_);
}

}  // namespace latticed
