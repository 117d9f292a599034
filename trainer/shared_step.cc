#include "trainer/shared_step.h"

#include <algorithm>
#include <array>
#include <utility>

namespace latticed {
namespace {

constexpr int kWords = 4;  // non_finite and StepWords

}  // namespace

DrawShare ShareOf(int64_t batch, int rank, int size) {
  constexpr int64_t kGroup = 16;
  const int64_t groups = batch / kGroup;
  const auto begin = [&](int64_t r) {
    return kGroup * (r * (groups / size) + std::min<int64_t>(r, groups % size));
  };
  return {begin(rank), begin(rank + 1) - begin(rank)};
}

absl::StatusOr<SharedStep> ComputeStep(LossGradient* loss_gradient,
                                       ProcessGroup* group,
                                       absl::Span<const float> parameters,
                                       const StreamId& stream,
                                       uint64_t first_index, int64_t batch,
                                       absl::FunctionRef<StepWords()> words,
                                       Window* window) {
  const DrawShare share = ShareOf(batch, group->rank(), group->size());
  LossGradientResult own;
  if (share.count > 0) {
    own = loss_gradient->ComputeShare(parameters, stream,
                                      first_index + share.first, share.count,
                                      /*batch=*/batch);
  } else {
    own.gradient.resize(parameters.size());
  }
  for (const double log_w : own.log_w) window->Add(log_w);

  std::vector<double>& sums = own.gradient;
  const size_t n = sums.size();
  const StepWords said = words();
  const std::array<double, kWords> tail = {
      static_cast<double>(own.non_finite), said.core_seconds,
      said.interrupted ? 1.0 : 0.0, said.out_of_time ? 1.0 : 0.0};
  sums.insert(sums.end(), tail.begin(), tail.end());
  if (absl::Status summed = group->SumUp(absl::MakeSpan(sums)); !summed.ok()) {
    return summed;
  }
  SharedStep step;
  step.non_finite = static_cast<int64_t>(sums[n]);
  step.words = {.core_seconds = sums[n + 1],
                .interrupted = sums[n + 2] > 0,
                .out_of_time = sums[n + 3] > 0};
  sums.resize(n);
  step.gradient = std::move(sums);
  return step;
}

int64_t StepBytes(int64_t parameters) {
  return static_cast<int64_t>(sizeof(double)) * (parameters + kWords);
}

}  // namespace latticed
