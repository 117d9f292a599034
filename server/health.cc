#include "server/health.h"

#include "absl/strings/str_cat.h"
#include "core/stats/jackknife.h"

namespace latticed {
namespace {

constexpr double kSigmas99 = 2.326;  // one-sided 99 %

}  // namespace

VersionHealth::VersionHealth(double gate_ess)
    : gate_ess_(gate_ess), blocks_(kJackknifeBlocks) {}

std::string VersionHealth::Observe(const WeightSums& sums) {
  if (sums.non_finite() > 0) {
    return absl::StrCat(sums.non_finite(),
                        " draws in production have no finite log q or action");
  }
  // Whole blocks go round robin: draws are independent, so any partition will
  // do as long as each part sees many of them.
  blocks_[next_block_].Merge(sums);
  next_block_ = (next_block_ + 1) % blocks_.size();
  draws_ += sums.draws();
  if (gate_ess_ <= 0 || draws_ < next_check_) return "";
  next_check_ = draws_ + draws_ / 16;
  WeightSums all;
  for (const WeightSums& block : blocks_) all.Merge(block);
  std::vector<double> without;
  for (size_t b = 0; b < blocks_.size(); ++b) {
    WeightSums rest;
    for (size_t other = 0; other < blocks_.size(); ++other) {
      if (other != b) rest.Merge(blocks_[other]);
    }
    without.push_back(rest.Ess());
  }
  const double upper = all.Ess() + kSigmas99 * JackknifeError(without);
  if (upper >= kShareOfGate * gate_ess_) return "";
  return absl::StrCat("ESS of ", draws_, " draws in production is ", all.Ess(),
                      ", with 99 % confidence below ", upper,
                      "; at the gate it was ", gate_ess_);
}

}  // namespace latticed
