#include "trainer/evaluate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "core/stats/log_weights.h"
#include "trainer/draw_all.h"

namespace latticed {

absl::StatusOr<std::vector<double>> HeldOutLogWeights(
    const v1::ModelSpec& spec, const Weights& weights, int step_factor,
    uint64_t draws, const std::string& stream_name, ProcessGroup* group) {
  SamplerOptions options;
  options.step_factor = step_factor;
  const auto sampler = MakeSampler(spec, weights, options);
  if (!sampler.ok()) return sampler.status();
  const auto n = static_cast<int64_t>(draws);
  const int64_t tile = (*sampler)->tile();
  const int rank = group == nullptr ? 0 : group->rank();
  const int size = group == nullptr ? 1 : group->size();
  const StreamId stream = NamedStream(stream_name);
  std::vector<double> log_w(n);
  // A tile each and then an exchange, so that none waits long for another. A
  // draw is one process's and zero elsewhere: the sum is the draw to the bit.
  for (int64_t round = 0; round < n; round += size * tile) {
    const int64_t first = std::min(n, round + rank * tile);
    int64_t i = first;
    DrawAll(**sampler, stream, {first, std::min(n, first + tile)},
            [&](absl::Span<const float>, double log_q, double action) {
              log_w[i++] = -action - log_q;
              return true;
            });
    if (group == nullptr) continue;
    const int64_t all = std::min(n - round, size * tile);
    if (absl::Status summed =
            group->SumUp(absl::MakeSpan(log_w).subspan(round, all));
        !summed.ok()) {
      return summed;
    }
  }
  return log_w;
}

absl::StatusOr<Evaluation> Evaluate(const v1::ModelSpec& spec,
                                    const Weights& weights, uint64_t draws,
                                    const std::string& stream_name,
                                    ProcessGroup* group) {
  const auto log_w =
      HeldOutLogWeights(spec, weights, 1, draws, stream_name, group);
  if (!log_w.ok()) return log_w.status();
  // Couplings have no steps to double.
  const auto doubled =
      spec.flow().has_coupling()
          ? log_w
          : HeldOutLogWeights(spec, weights, 2, draws, stream_name, group);
  if (!doubled.ok()) return doubled.status();
  for (const auto& values : {*log_w, *doubled}) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isfinite(values[i])) continue;
      return absl::FailedPreconditionError(absl::StrCat(
          "draw ", i, " of the held-out stream has log w = ", values[i],
          "; the flow is not fit to be published: train it further, with a "
          "smaller learning_rate or clip_norm"));
    }
  }

  Evaluation result;
  v1::Quality& quality = result.quality;
  const double sites = static_cast<double>(MakeLattice(spec.lattice()).Sites());
  const Estimate ess = Ess(*log_w), acceptance = Acceptance(*log_w),
                 variance = LogWeightVariance(*log_w), log_z = LogZ(*log_w),
                 ess_doubled = Ess(*doubled);
  quality.set_draws(draws);
  quality.set_ess(ess.value);
  quality.set_ess_error(ess.error);
  quality.set_acceptance(acceptance.value);
  quality.set_acceptance_error(acceptance.error);
  quality.set_sigma2_per_site(variance.value / sites);
  quality.set_sigma2_per_site_error(variance.error / sites);
  quality.set_log_z(log_z.value);
  quality.set_log_z_error(log_z.error);
  quality.set_ess_doubled_steps(ess_doubled.value);
  quality.set_ess_doubled_steps_error(ess_doubled.error);
  double square = 0, largest = 0;
  for (size_t i = 0; i < log_w->size(); ++i) {
    const double difference = std::abs((*log_w)[i] - (*doubled)[i]);
    square += difference * difference;
    largest = std::max(largest, difference);
    result.log_w_mean += (*log_w)[i] / static_cast<double>(draws);
  }
  quality.set_step_doubling_draws(draws);
  quality.set_step_doubling_rms(std::sqrt(square / static_cast<double>(draws)));
  quality.set_step_doubling_max(largest);
  return result;
}

}  // namespace latticed
