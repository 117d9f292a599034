#include "core/sampling/fused_sampler.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/kernels/parallel.h"

namespace latticed {

double StandardNormalLogDensity(absl::Span<const float> z) {
  double squares = 0;
  for (const float value : z) squares += double{value} * value;
  return -0.5 * squares -
         0.5 * static_cast<double>(z.size()) * std::log(2 * std::numbers::pi);
}

FusedSampler::FusedSampler(const EquivariantShape& shape,
                           absl::Span<const float> parameters,
                           std::unique_ptr<const Action> action, int64_t tile)
    : kernel_(shape), action_(std::move(action)), tile_(tile) {
  kernel_.SetParameters(parameters);
  const int64_t lanes = EquivariantKernel<float>::Lanes();
  for (int thread = 0; thread < ComputeThreads(); ++thread) {
    spaces_.push_back(kernel_.MakeWorkspace(/*training=*/false));
    base_.emplace_back(lanes * shape.lattice.Sites());
  }
}

std::string FusedSampler::numerics_mode() const {
  return absl::StrCat("float32 tile=", tile_, " rk4=", kernel_.shape().steps,
                      " fused ", FusesMultiplyAdd() ? "fma" : "scalar", " cpu");
}

void FusedSampler::Draw(absl::Span<const DrawId> ids, const DrawSpans& out) {
  const int64_t sites = lattice().Sites();
  const int64_t lanes = EquivariantKernel<float>::Lanes();
  const int64_t count = static_cast<int64_t>(ids.size());
  const int64_t groups = (count + lanes - 1) / lanes;
  ParallelFor(groups, [&](int thread, int64_t group) {
    const int64_t first = group * lanes;
    const int64_t n = std::min(lanes, count - first);
    float* z = base_[thread].data();
    float* phi = out.phi.data() + first * sites;
    double* log_q = out.log_q.data() + first;
    for (int64_t i = 0; i < n; ++i) {
      const absl::Span<float> base(z + i * sites, sites);
      Normals(ids[first + i].stream, ids[first + i].index, Purpose::kBaseDraw,
              base);
      log_q[i] = StandardNormalLogDensity(base);
    }
    kernel_.Forward(spaces_[thread], n, z, phi, log_q);
    for (int64_t i = 0; i < n; ++i) {
      out.action[first + i] =
          action_->Evaluate(absl::Span<const float>(phi + i * sites, sites));
    }
  });
}

void FusedSampler::Evaluate(absl::Span<const float> phi,
                            absl::Span<double> log_q,
                            absl::Span<double> action) {
  const int64_t sites = lattice().Sites();
  const int64_t lanes = EquivariantKernel<float>::Lanes();
  const int64_t count = static_cast<int64_t>(log_q.size());
  ParallelFor((count + lanes - 1) / lanes, [&](int thread, int64_t group) {
    const int64_t first = group * lanes;
    const int64_t n = std::min(lanes, count - first);
    float* z = base_[thread].data();
    std::fill_n(log_q.data() + first, n, 0.0);
    kernel_.Reverse(spaces_[thread], n, phi.data() + first * sites, z,
                    log_q.data() + first);
    for (int64_t i = 0; i < n; ++i) {
      log_q[first + i] += StandardNormalLogDensity(
          absl::Span<const float>(z + i * sites, sites));
      action[first + i] =
          action_->Evaluate(phi.subspan((first + i) * sites, sites));
    }
  });
}

}  // namespace latticed
