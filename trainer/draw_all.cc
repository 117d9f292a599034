#include "trainer/draw_all.h"

#include <algorithm>
#include <vector>

#include "trainer/core_seconds.h"

namespace latticed {

double DrawAll(TileSampler& sampler, const StreamId& stream, DrawRange range,
               VisitDraw visit) {
  const int64_t tile = sampler.tile(), sites = sampler.lattice().Sites();
  std::vector<float> phi(tile * sites);
  std::vector<double> log_q(tile), action(tile);
  std::vector<DrawId> ids;
  double seconds = 0;
  for (int64_t first = range.first; first < range.end; first += tile) {
    const int64_t n = std::min(tile, range.end - first);
    ids.clear();
    for (int64_t i = 0; i < n; ++i) {
      ids.push_back({stream, static_cast<uint64_t>(first + i)});
    }
    const double begin = CoreSeconds();
    sampler.Draw(ids, {absl::MakeSpan(phi), absl::MakeSpan(log_q),
                       absl::MakeSpan(action)});
    seconds += CoreSeconds() - begin;
    for (int64_t i = 0; i < n; ++i) {
      if (!visit(absl::MakeConstSpan(phi).subspan(i * sites, sites), log_q[i],
                 action[i])) {
        return seconds;
      }
    }
  }
  return seconds;
}

}  // namespace latticed
