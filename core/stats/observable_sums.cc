#include "core/stats/observable_sums.h"

#include <cstddef>

#include "core/stats/jackknife.h"
#include "core/stats/primaries.h"

namespace latticed {
namespace {

// Of all blocks less one; `without` may be null.
std::vector<double> Means(const ObservableSums& total,
                          const ObservableSums* without) {
  std::vector<double> mean(total.sums().begin(), total.sums().end());
  double weight = total.weight();
  if (without != nullptr) weight -= without->weight();
  for (size_t p = 0; p < mean.size(); ++p) {
    if (without != nullptr) mean[p] -= without->sums()[p];
    mean[p] /= weight;
  }
  return mean;
}

}  // namespace

ObservableSums::ObservableSums(int64_t l0, int64_t l1)
    : l0_(l0), l1_(l1), sums_(PrimaryCount(l1), 0.0) {}

void ObservableSums::Add(const Measurement& measurement, double weight) {
  weight_ += weight;
  for (size_t p = 0; p < sums_.size(); ++p) {
    sums_[p] += weight * PrimaryOf(measurement, static_cast<int64_t>(p));
  }
}

void ObservableSums::Merge(const ObservableSums& other) {
  weight_ += other.weight_;
  for (size_t p = 0; p < sums_.size(); ++p) sums_[p] += other.sums_[p];
}

std::map<std::string, Estimate> EstimateBlocks(
    absl::Span<const ObservableSums> blocks) {
  if (blocks.empty()) return {};
  const int64_t l0 = blocks[0].l0();
  const int64_t l1 = blocks[0].l1();
  ObservableSums total(l0, l1);
  for (const ObservableSums& block : blocks) total.Merge(block);
  if (!(total.weight() > 0)) return {};

  const std::vector<double> values =
      ObservablesAt(Means(total, nullptr), l0, l1);
  std::vector<std::vector<double>> leave_one_out(blocks.size());
  for (size_t b = 0; b < blocks.size(); ++b) {
    leave_one_out[b] = ObservablesAt(Means(total, &blocks[b]), l0, l1);
  }
  std::vector<Estimate> estimates;
  std::vector<double> thetas(blocks.size());
  for (size_t k = 0; k < values.size(); ++k) {
    for (size_t b = 0; b < blocks.size(); ++b) thetas[b] = leave_one_out[b][k];
    estimates.push_back({values[k], JackknifeError(thetas)});
  }
  return NamedEstimates(l1, estimates);
}

}  // namespace latticed
