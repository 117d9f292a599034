#include "server/chain_walk.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/random/stream.h"
#include "core/stats/metropolis.h"
#include "core/wire/block.h"
#include "core/wire/crc32c.h"

namespace latticed {
namespace {

// Log weights and acceptance uniforms of the block's draws.
struct Proposals {
  std::vector<double> log_w;
  std::vector<double> log_u;
};

Proposals Propose(const Block& block, const StreamId& stream,
                  ChainSteps* steps) {
  Proposals proposals;
  for (int64_t i = 0; i < block.count; ++i) {
    const size_t at = static_cast<size_t>(i);
    const double log_q = block.log_q()[at];
    const double action = block.action()[at];
    steps->non_finite_log_q += std::isfinite(log_q) ? 0 : 1;
    steps->non_finite_action += std::isfinite(action) ? 0 : 1;
    // Not a number is never accepted, whatever is wrong with the draw: an
    // action of +inf with a log q of -inf must not pass for a good weight.
    const bool finite = std::isfinite(log_q) && std::isfinite(action);
    proposals.log_w.push_back(finite ? -action - log_q : std::nan(""));
    steps->proposals.Add(proposals.log_w.back());
    proposals.log_u.push_back(
        std::log(Uniform(stream, block.first_index + static_cast<uint64_t>(i),
                         Purpose::kAccept)));
  }
  return proposals;
}

double AbsMean(absl::Span<const float> phi) {
  double sum = 0;
  for (const float x : phi) sum += x;
  return std::abs(sum) / static_cast<double>(phi.size());
}

// Action and |M| of every step of the walk that has a configuration.
void Monitor(const Block& block, const Walk& walk, bool started,
             const ChainSite& site, ChainMonitor* monitor) {
  const size_t sites = static_cast<size_t>(block.version->lattice.Sites());
  int64_t of = -2;  // the position the values belong to
  double action = 0;
  double abs_m = 0;
  for (const int64_t position : walk.index) {
    if (position < 0 && !started) continue;
    if (position != of) {
      of = position;
      const size_t at = position < 0 ? 0 : static_cast<size_t>(position);
      action = position < 0 ? site.action : block.action()[at];
      if (block.has_phi) {
        abs_m = AbsMean(position < 0 ? absl::MakeConstSpan(site.phi)
                                     : block.phi().subspan(at * sites, sites));
      }
    }
    monitor->action.Add(action);
    if (block.has_phi) monitor->abs_m.Add(abs_m);
  }
}

}  // namespace

ChainSteps WalkBlock(const Block& block, ChainState* state, ChainSite* site,
                     ChainMonitor* monitor) {
  ChainSteps steps;
  v1::ChainBlock& out = steps.block;
  const size_t sites = static_cast<size_t>(block.version->lattice.Sites());
  const Proposals proposals = Propose(block, state->stream, &steps);
  const Walk walk = AcceptReject(
      state->started ? state->log_w : -std::numeric_limits<double>::infinity(),
      proposals.log_w, proposals.log_u);

  Monitor(block, walk, state->started, *site, monitor);

  out.set_first_step(state->step);
  out.set_steps(static_cast<uint32_t>(block.count));
  out.set_accepted(static_cast<uint32_t>(walk.accepted));
  out.set_non_finite(static_cast<uint32_t>(walk.non_finite));
  std::string accept(static_cast<size_t>((block.count + 7) / 8), '\0');
  std::vector<double> log_q;
  std::vector<double> action;
  std::vector<size_t> positions;  // of rows in the block
  int64_t row_of = -2;            // the position the last row came from
  for (int64_t i = 0; i < block.count; ++i) {
    const int64_t position = walk.index[static_cast<size_t>(i)];
    if (position == i) {
      accept[static_cast<size_t>(i / 8)] |= static_cast<char>(1 << (i % 8));
      if (state->rejection_run > 0) {
        steps.rejection_runs.push_back(state->rejection_run);
      }
      state->rejection_run = 0;
    } else {
      state->rejection_run += 1;
      state->longest_rejection_run =
          std::max(state->longest_rejection_run, state->rejection_run);
    }
    const uint64_t step = state->step + static_cast<uint64_t>(i);
    if (step % state->thinning != 0) continue;
    if (position < 0 && !state->started) continue;
    if (position != row_of) {
      row_of = position;
      if (position < 0) {
        steps.carried_phi = site->phi;
        out.add_index(state->index);
        log_q.push_back(site->log_q);
        action.push_back(site->action);
      } else {
        const size_t at = static_cast<size_t>(position);
        positions.push_back(at);
        out.add_index(block.first_index + static_cast<uint64_t>(position));
        log_q.push_back(block.log_q()[at]);
        action.push_back(block.action()[at]);
      }
    }
    out.add_row(static_cast<uint32_t>(out.index_size() - 1));
  }
  out.set_accept(std::move(accept));

  const int64_t last = walk.index.back();
  if (last >= 0) {
    const size_t at = static_cast<size_t>(last);
    state->started = true;
    state->index = block.first_index + static_cast<uint64_t>(last);
    state->log_w = proposals.log_w[at];
    site->log_q = block.log_q()[at];
    site->action = block.action()[at];
    if (block.has_phi) {
      site->phi.assign(&block.phi()[at * sites],
                       &block.phi()[at * sites] + sites);
    }
  }
  state->step += static_cast<uint64_t>(block.count);
  state->accepted += static_cast<uint64_t>(walk.accepted);
  state->non_finite += static_cast<uint64_t>(walk.non_finite);

  if (block.has_phi) {
    for (size_t row = 0; row < positions.size(); ++row) {
      if (positions[row] == row) continue;
      std::copy_n(&block.phi()[positions[row] * sites], sites,
                  &block.phi()[row * sites]);
    }
    steps.rows_in_place = static_cast<int64_t>(positions.size());
  }
  if (state->content.log_q) {
    out.set_log_q(std::string(BytesOf(absl::MakeConstSpan(log_q))));
  }
  if (state->content.action) {
    out.set_action(std::string(BytesOf(absl::MakeConstSpan(action))));
  }
  const auto phi =
      block.phi().first(static_cast<size_t>(steps.rows_in_place) * sites);
  uint32_t crc = BlockCrc32c(out.log_q(), out.action(),
                             BytesOf(absl::MakeConstSpan(steps.carried_phi)));
  out.set_crc32c(Crc32c(BytesOf(phi), crc));
  return steps;
}

}  // namespace latticed
