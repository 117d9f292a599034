#include "trainer/study/sample.h"

#include <algorithm>
#include <utility>

#include "core/factory.h"
#include "trainer/core_seconds.h"

namespace latticed {

absl::StatusOr<Sample> DrawSample(const Checkpoint& checkpoint, int64_t draws,
                                  const std::string& stream_name,
                                  const std::atomic<bool>& stop) {
  auto sampler =
      MakeSampler(checkpoint.manifest.spec(), checkpoint.weights, {});
  if (!sampler.ok()) return sampler.status();
  const Lattice lattice = (*sampler)->lattice();
  const int64_t tile = (*sampler)->tile();
  const StreamId stream = NamedStream(stream_name);
  std::vector<float> phi(tile * lattice.Sites());
  std::vector<double> log_q(tile), action(tile);
  std::vector<DrawId> ids;
  Sample sample;
  for (int64_t first = 0; first < draws; first += tile) {
    if (stop.load()) return absl::CancelledError("stopped");
    const int64_t n = std::min(tile, draws - first);
    ids.clear();
    for (int64_t i = 0; i < n; ++i) {
      ids.push_back({stream, static_cast<uint64_t>(first + i)});
    }
    const double begin = CoreSeconds();
    (*sampler)->Draw(ids, {absl::MakeSpan(phi), absl::MakeSpan(log_q),
                           absl::MakeSpan(action)});
    sample.core_seconds += CoreSeconds() - begin;
    for (int64_t i = 0; i < n; ++i) {
      sample.measurements.push_back(Measure(
          {&phi[i * lattice.Sites()], static_cast<size_t>(lattice.Sites())},
          lattice.l0, lattice.l1,
          action[i] / static_cast<double>(lattice.Sites())));
      sample.log_w.push_back(-action[i] - log_q[i]);
    }
  }
  return sample;
}

}  // namespace latticed
