#include "trainer/path_gradient.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/parallel.h"
#include "core/sampling/fused_sampler.h"

namespace latticed {

PathGradient::PathGradient(const EquivariantShape& shape, const Action& action)
    : kernel_(shape), action_(action) {
  const int64_t size =
      EquivariantKernel<float>::Lanes() * shape.lattice.Sites();
  for (int i = 0; i < ComputeThreads(); ++i) {
    threads_.push_back({kernel_.MakeWorkspace(/*training=*/true),
                        std::vector<float>(size), std::vector<float>(size),
                        std::vector<float>(size),
                        std::vector<double>(shape.lattice.Sites()),
                        std::vector<double>(shape.lattice.Sites())});
  }
}

LossGradientResult PathGradient::ComputeShare(
    absl::Span<const float> parameters, const StreamId& stream,
    uint64_t first_index, int64_t count, int64_t batch) {
  const int64_t sites = action_.lattice().Sites();
  const int64_t lanes = EquivariantKernel<float>::Lanes();
  kernel_.SetParameters(parameters);
  for (Thread& thread : threads_) thread.space.ClearGradient();

  LossGradientResult result;
  result.log_w.resize(count);
  const int64_t groups = (count + lanes - 1) / lanes;
  const int64_t shares = static_cast<int64_t>(threads_.size());
  // Share i sums groups i, i + shares, ... whichever thread runs it, so that
  // the order of the sums is fixed.
  const auto add_group = [&](Thread& own, int64_t first) {
    const int64_t n = std::min(lanes, count - first);
    std::vector<double> log_q(n);
    for (int64_t i = 0; i < n; ++i) {
      const absl::Span<float> z(own.z.data() + i * sites, sites);
      Normals(stream, first_index + first + i, Purpose::kBaseDraw, z);
      log_q[i] = StandardNormalLogDensity(z);
      for (int64_t x = 0; x < sites; ++x) own.score[i * sites + x] = -z[x];
    }
    kernel_.ForwardScore(own.space, n, own.z.data(), own.phi.data(),
                         own.score.data(), log_q.data());
    for (int64_t i = 0; i < n; ++i) {
      const float* phi = own.phi.data() + i * sites;
      float* cotangent = own.score.data() + i * sites;
      std::copy_n(phi, sites, own.field.begin());
      const double log_w = -action_.Evaluate(own.field) - log_q[i];
      result.log_w[first + i] = log_w;
      action_.Gradient(own.field, absl::MakeSpan(own.gradient));
      bool finite = std::isfinite(log_w);
      for (int64_t x = 0; x < sites; ++x) {
        cotangent[x] = static_cast<float>((cotangent[x] + own.gradient[x]) /
                                          static_cast<double>(batch));
        finite = finite && std::isfinite(cotangent[x]);
      }
      if (!finite) result.log_w[first + i] = std::nan("");
    }
    kernel_.Backward(own.space, n, own.score.data());
  };
  ParallelFor(shares, [&](int, int64_t share) {
    for (int64_t group = share; group < groups; group += shares) {
      add_group(threads_[share], group * lanes);
    }
  });

  result.gradient.assign(kernel_.shape().ParameterCount(), 0.0);
  for (const Thread& thread : threads_) {
    kernel_.AddGradient(thread.space, absl::MakeSpan(result.gradient));
  }
  SumUp(&result);
  return result;
}

}  // namespace latticed
