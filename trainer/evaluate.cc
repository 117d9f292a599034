#include "trainer/evaluate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "core/stats/log_weights.h"

namespace latticed {

absl::StatusOr<std::vector<double>> HeldOutLogWeights(
    const v1::ModelSpec& spec, const Weights& weights, int step_factor,
    uint64_t first, uint64_t draws, const std::string& stream_name) {
  const StreamId stream = NamedStream(stream_name);
  SamplerOptions options;
  options.step_factor = step_factor;
  auto sampler = MakeSampler(spec, weights, options);
  if (!sampler.ok()) return sampler.status();
  const int64_t tile = (*sampler)->tile();
  std::vector<float> phi(tile * (*sampler)->lattice().Sites());
  std::vector<double> log_q(tile), action(tile), log_w;
  std::vector<DrawId> ids;
  for (uint64_t done = 0; done < draws; done += tile) {
    const int64_t n = std::min<int64_t>(tile, draws - done);
    ids.clear();
    for (int64_t i = 0; i < n; ++i) ids.push_back({stream, first + done + i});
    (*sampler)->Draw(ids, {absl::MakeSpan(phi), absl::MakeSpan(log_q),
                           absl::MakeSpan(action)});
    for (int64_t i = 0; i < n; ++i) {
      const double value = -action[i] - log_q[i];
      if (!std::isfinite(value)) {
        return absl::FailedPreconditionError(absl::StrCat(
            "draw ", first + done + i,
            " of the held-out stream has log w = ", value,
            "; the flow is not fit to be published: train it further, with a "
            "smaller learning_rate or clip_norm"));
      }
      log_w.push_back(value);
    }
  }
  return log_w;
}

absl::StatusOr<Evaluation> Evaluate(const v1::ModelSpec& spec,
                                    const Weights& weights, uint64_t draws,
                                    const std::string& stream_name) {
  const auto log_w = HeldOutLogWeights(spec, weights, 1, 0, draws, stream_name);
  if (!log_w.ok()) return log_w.status();
  // Couplings have no steps to double.
  const auto doubled =
      spec.flow().has_coupling()
          ? log_w
          : HeldOutLogWeights(spec, weights, 2, 0, draws, stream_name);
  if (!doubled.ok()) return doubled.status();

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
