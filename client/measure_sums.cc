#include "client/measure_sums.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace latticed {
namespace {

constexpr uint64_t kDrawsBeforeEnd = 1024;
constexpr char kLogZ[] = "log_Z";

}  // namespace

absl::StatusOr<BlockSums> Decode(const v1::MeasureSums& sums,
                                 const v1::Lattice& lattice, bool chain) {
  const absl::Status bad = absl::InternalError(
      "the server sent sums of a measurement that contradict themselves");
  if (lattice.extent_size() != 2 || !std::isfinite(sums.log_w_reference())) {
    return bad;
  }
  BlockSums decoded(lattice.extent(0), lattice.extent(1), chain,
                    sums.log_w_reference());
  const int blocks = sums.positions_size();
  const int primaries = static_cast<int>(decoded.primaries());
  if (sums.non_finite_size() != blocks || sums.sum_w_size() != blocks ||
      sums.sum_w2_size() != blocks || sums.measured_size() != blocks ||
      sums.quantities_size() % primaries != 0 ||
      sums.quantities_size() / primaries != blocks) {
    return bad;
  }
  std::vector<BlockSum> restored(static_cast<size_t>(blocks));
  for (int i = 0; i < blocks; ++i) {
    BlockSum& block = restored[static_cast<size_t>(i)];
    block.positions = sums.positions(i);
    block.non_finite = sums.non_finite(i);
    block.sum_w = sums.sum_w(i);
    block.sum_w2 = sums.sum_w2(i);
    block.measured = sums.measured(i);
    const auto first = sums.quantities().begin() + i * primaries;
    block.sums.assign(first, first + primaries);
  }
  if (blocks > 0 && !decoded.Restore(sums.block_size(), std::move(restored))) {
    return bad;
  }
  return decoded;
}

Measured MeasuredFrom(
    const BlockSums& sums,
    const google::protobuf::RepeatedPtrField<std::string>& names) {
  Measured measured;
  const auto all = sums.JackknifeObservables();
  for (const std::string& name : names) {
    const auto it = all.find(name);
    if (it != all.end()) measured.observables.insert(*it);
  }
  measured.log_z = sums.LogZ();
  measured.ess = sums.Ess();
  const BlockSum total = sums.Total();
  measured.draws = total.positions;
  measured.non_finite = total.non_finite;
  const auto chi_2 = all.find("chi_2");
  if (sums.chain() && chi_2 != all.end()) {
    measured.tau_int = sums.TauIntChi2(chi_2->second);
  }
  return measured;
}

bool Reached(const Measured& measured, const v1::MeasureRequest& request) {
  if (measured.draws < kDrawsBeforeEnd) return false;
  const v1::MeasureBudget& budget = request.budget();
  if (budget.effective_samples() > 0) {
    const double draws = static_cast<double>(measured.draws);
    const double effective = request.estimator() == v1::ESTIMATOR_CHAIN
                                 ? draws / (2 * measured.tau_int)
                                 : draws * measured.ess.value;
    if (effective >= budget.effective_samples()) return true;
  }
  if (budget.relative_error() == 0) return false;
  return std::all_of(request.observable().begin(), request.observable().end(),
                     [&](const std::string& name) {
                       const auto it = measured.observables.find(name);
                       if (name != kLogZ && it == measured.observables.end())
                         return false;
                       const Estimate& estimate =
                           name == kLogZ ? measured.log_z : it->second;
                       return estimate.error <= budget.relative_error() *
                                                    std::abs(estimate.value);
                     });
}

}  // namespace latticed
