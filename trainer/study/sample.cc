#include "trainer/study/sample.h"

#include "core/factory.h"
#include "trainer/draw_all.h"

namespace latticed {

absl::StatusOr<Sample> DrawSample(const Checkpoint& checkpoint, int64_t draws,
                                  const std::string& stream_name,
                                  const std::atomic<bool>& stop) {
  const auto sampler =
      MakeSampler(checkpoint.manifest.spec(), checkpoint.weights, {});
  if (!sampler.ok()) return sampler.status();
  const Lattice lattice = (*sampler)->lattice();
  const double sites = static_cast<double>(lattice.Sites());
  Sample sample;
  sample.core_seconds =
      DrawAll(**sampler, NamedStream(stream_name), {0, draws},
              [&](absl::Span<const float> phi, double log_q, double action) {
                sample.measurements.push_back(
                    Measure(phi, lattice.l0, lattice.l1, action / sites));
                sample.log_w.push_back(-action - log_q);
                return !stop.load();
              });
  if (stop.load()) return absl::CancelledError("stopped");
  return sample;
}

}  // namespace latticed
