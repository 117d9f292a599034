#include "client/cli/summary.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "client/cli/format.h"
#include "core/stats/autocorrelation.h"

namespace latticed {
namespace {

constexpr const char* kObservables[] = {
    "chi_2",    "m_p_L", "xi_2nd",      "abs_M",
    "binder_U", "phi2",  "link_energy", "action_per_site"};

// A measurement, its weight, and its place in the estimators' work arrays.
uint64_t MeasuredMax(int64_t l1, int64_t bytes_max) {
  const int64_t bytes =
      sizeof(Measurement) + (l1 + 4) * static_cast<int64_t>(sizeof(double));
  return static_cast<uint64_t>(std::max<int64_t>(bytes_max / bytes, 2));
}

void AppendObservables(const std::map<std::string, Estimate>& estimates,
                       Summary* summary) {
  for (const char* name : kObservables) {
    const auto found = estimates.find(name);
    if (found != estimates.end()) summary->rows.push_back(*found);
  }
}

}  // namespace

DrawSummary::DrawSummary(int64_t l0, int64_t l1, int64_t bytes_max)
    : l0_(l0), l1_(l1), measured_max_(MeasuredMax(l1, bytes_max)) {}

void DrawSummary::Add(const DrawBlock& block) {
  total_ += block.size();
  const size_t sites = static_cast<size_t>(l0_ * l1_);
  for (size_t i = 0; i < block.size(); ++i) {
    if (measurements_.size() >= measured_max_) return;
    const absl::Span<const float> phi(block.phi.data() + i * sites, sites);
    measurements_.push_back(Measure(phi, l0_, l1_, block.action[i]));
    log_w_.push_back(-block.action[i] - block.log_q[i]);
  }
}

Summary DrawSummary::Result() const {
  Summary summary{.measured = measurements_.size(), .total = total_};
  if (measurements_.empty()) return summary;
  const double volume = static_cast<double>(l0_ * l1_);
  Estimate sigma2 = LogWeightVariance(log_w_);
  sigma2.value /= volume;
  sigma2.error /= volume;
  summary.rows = {{"ESS", Ess(log_w_)},
                  {"acceptance", Acceptance(log_w_)},
                  {"sigma2_per_site", sigma2},
                  {"log_Z", LogZ(log_w_)}};
  AppendObservables(EstimateIndependent(measurements_, log_w_, l0_, l1_),
                    &summary);
  return summary;
}

ChainSummaryBuilder::ChainSummaryBuilder(int64_t l0, int64_t l1,
                                         int64_t bytes_max)
    : l0_(l0), l1_(l1), measured_max_(MeasuredMax(l1, bytes_max)) {}

void ChainSummaryBuilder::Add(const StepBlock& block) {
  total_ += block.row.size();
  steps_ += block.steps;
  accepted_ += block.accepted;
  for (uint8_t moved : block.accept) {
    if (accept_.size() >= measured_max_) break;
    accept_.push_back(moved);
  }
  const size_t sites = static_cast<size_t>(l0_ * l1_);
  size_t measured_row = block.index.size();  // none
  for (uint32_t row : block.row) {
    if (measurements_.size() >= measured_max_) return;
    if (row == measured_row) {
      measurements_.push_back(measurements_.back());
      continue;
    }
    const absl::Span<const float> phi(block.phi.data() + row * sites, sites);
    measurements_.push_back(Measure(phi, l0_, l1_, block.action[row]));
    measured_row = row;
  }
}

Summary ChainSummaryBuilder::Result() const {
  Summary summary{.measured = measurements_.size(), .total = total_};
  if (steps_ > 0) {
    const double rate =
        static_cast<double>(accepted_) / static_cast<double>(steps_);
    const double error = accept_.size() > 1 ? GammaMethod(accept_).error : 0;
    summary.rows.push_back({"acceptance", {rate, error}});
  }
  if (measurements_.size() < 2) return summary;
  std::vector<double> chi_2;
  chi_2.reserve(measurements_.size());
  for (const Measurement& x : measurements_) {
    chi_2.push_back(static_cast<double>(l0_ * l1_) * x.m * x.m);
  }
  const Autocorrelation gamma = GammaMethod(chi_2);
  summary.rows.push_back(
      {"tau_int_chi_2", {gamma.tau_int, gamma.tau_int_error}});
  AppendObservables(EstimateChain(measurements_, l0_, l1_), &summary);
  return summary;
}

std::string FormatSummary(const Summary& summary) {
  std::vector<std::vector<std::string>> rows = {
      {"  quantity", "value", "error"}};
  for (const auto& [name, estimate] : summary.rows) {
    const ValueAndError text = Format(estimate);
    rows.push_back({absl::StrCat("  ", name), text.value, text.error});
  }
  std::string text = FormatTable(rows, /*right=*/{1, 2});
  if (summary.measured < summary.total) {
    absl::StrAppend(&text, "  (from the first ", summary.measured, " of ",
                    summary.total, ": the summary's memory is bounded)\n");
  }
  return text;
}

void WriteSummary(const Summary& summary, JsonWriter* json) {
  json->BeginObject();
  for (const auto& [name, estimate] : summary.rows) {
    json->Key(name).BeginObject();
    json->Key("value").Number(estimate.value);
    json->Key("error").Number(estimate.error);
    json->EndObject();
  }
  json->EndObject();
}

}  // namespace latticed
