#include "server/gate.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace latticed {
namespace {

// One-sided 99 % of a normal distribution.
constexpr double kSigmas99 = 2.326;

class Verdict {
 public:
  // NaN passes nothing.
  void AtLeast(const std::string& name, double value, double bound,
               const std::string& detail) {
    Add(name, value >= bound, value, bound, detail);
  }
  void AtMost(const std::string& name, double value, double bound,
              const std::string& detail) {
    Add(name, value <= bound, value, bound, detail);
  }
  void Warn(const std::string& warning) { report_.add_warnings(warning); }

  v1::GateReport Report() {
    report_.set_passed(
        std::all_of(report_.checks().begin(), report_.checks().end(),
                    [](const v1::GateCheck& check) { return check.passed(); }));
    return report_;
  }
  v1::GateReport& report() { return report_; }

 private:
  void Add(const std::string& name, bool passed, double value, double bound,
           const std::string& detail) {
    v1::GateCheck& check = *report_.add_checks();
    check.set_name(name);
    check.set_passed(passed);
    check.set_value(value);
    check.set_bound(bound);
    check.set_detail(detail);
  }
  v1::GateReport report_;
};

double Rms(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares / static_cast<double>(values.size()));
}

double Lower99(const Estimate& estimate) {
  return estimate.value - kSigmas99 * estimate.error;
}

v1::Estimate Message(const Estimate& estimate) {
  v1::Estimate message;
  message.set_value(estimate.value);
  message.set_error(estimate.error);
  return message;
}

void JudgeWeights(const GateEvidence& evidence, double ess_floor,
                  const std::optional<GateBaseline>& live,
                  const GateLimits& limits, Verdict* verdict) {
  WeightSums sums;
  for (const double log_w : evidence.log_w) sums.Add(log_w);
  verdict->AtMost("non_finite_draws", static_cast<double>(sums.non_finite()), 0,
                  "draws whose log q or action is not finite");
  verdict->AtLeast("draws", static_cast<double>(sums.draws()),
                   static_cast<double>(limits.draws_min),
                   "drawn in the time that gating may take");
  const Estimate ess = Ess(evidence.log_w);
  const Estimate acceptance = Acceptance(evidence.log_w);
  v1::GateReport& report = verdict->report();
  report.set_draws(evidence.log_w.size());
  *report.mutable_ess() = Message(ess);
  *report.mutable_acceptance() = Message(acceptance);
  verdict->AtLeast("ess_floor", Lower99(ess), ess_floor,
                   "lower 99 % bound against the spec's ess_floor");
  if (live) {
    verdict->AtLeast("ess_of_live", Lower99(ess),
                     limits.ess_of_live * live->ess,
                     "lower 99 % bound against the live version's");
    verdict->AtLeast("acceptance_of_live", Lower99(acceptance),
                     limits.acceptance_of_live * live->acceptance,
                     "lower 99 % bound against the live version's");
  }
  verdict->AtMost("largest_weight_share",
                  sums.sum_w() > 0 ? 1 / sums.sum_w() : NAN,
                  limits.weight_share_max, "max w / sum w");
}

void JudgeReference(const GateEvidence& evidence,
                    const v1::ReferenceManifest* reference,
                    const GateLimits& limits, Verdict* verdict) {
  if (reference == nullptr) {
    verdict->Warn(
        "the model has no Monte Carlo reference: neither its observables nor a "
        "missing mode were checked; latticed-train reference writes one");
    return;
  }
  for (const char* name : {"phi2", "abs_M", "link_energy", "chi_2"}) {
    const auto ours = evidence.observables.find(name);
    const auto theirs = reference->observables().find(name);
    if (ours == evidence.observables.end() ||
        theirs == reference->observables().end()) {
      continue;
    }
    const double error = std::hypot(ours->second.error, theirs->second.error());
    verdict->AtMost(
        absl::StrCat("reference_", name),
        std::abs(ours->second.value - theirs->second.value()) / error,
        limits.sigmas,
        absl::StrCat("standard deviations between ", ours->second.value,
                     " of the reweighted draws and ", theirs->second.value(),
                     " of Monte Carlo"));
  }
  if (evidence.reference_log_w.empty()) {
    verdict->Warn("the Monte Carlo reference keeps no configurations");
    return;
  }
  double own = -INFINITY;
  for (const double log_w : evidence.log_w) {
    if (std::isfinite(log_w)) own = std::max(own, log_w);
  }
  // A configuration that the flow cannot produce has log q = -inf, or none.
  double excess = -INFINITY;
  for (const double log_w : evidence.reference_log_w) {
    excess = std::isnan(log_w) ? INFINITY : std::max(excess, log_w - own);
    if (excess == INFINITY) break;
  }
  verdict->AtMost("reference_log_weight", excess, limits.reference_excess,
                  "largest log w of the stored configurations above that of "
                  "the draws: the flow misses what is stored there");
}

}  // namespace

v1::GateReport Judge(const GateEvidence& evidence, double ess_floor,
                     const v1::ReferenceManifest* reference,
                     const std::optional<GateBaseline>& live,
                     const GateLimits& limits) {
  Verdict verdict;
  JudgeWeights(evidence, ess_floor, live, limits, &verdict);
  verdict.AtMost("step_doubling_rms", Rms(evidence.step_doubling),
                 limits.step_doubling_rms, "log w at N and at 2N steps");
  verdict.AtMost("round_trip_rms", Rms(evidence.round_trip),
                 limits.round_trip_rms, "log q of drawing and of evaluating");
  JudgeReference(evidence, reference, limits, &verdict);
  verdict.AtMost(
      "z2_balance",
      std::abs(evidence.sign_m.value) / std::max(evidence.sign_m.error, 1e-300),
      limits.sigmas,
      "standard deviations of the reweighted mean of sign M from 0");
  v1::GateReport& report = verdict.report();
  report.set_seconds(evidence.seconds);
  report.set_draws_per_second(evidence.draws_per_second);
  if (live && evidence.draws_per_second <
                  limits.rate_of_live * live->draws_per_second) {
    verdict.Warn(absl::StrCat("draws ", evidence.draws_per_second,
                              " a second, the live version ",
                              live->draws_per_second));
  }
  return verdict.Report();
}

std::string FailedChecks(const v1::GateReport& report) {
  std::vector<std::string> failed;
  for (const v1::GateCheck& check : report.checks()) {
    if (check.passed()) continue;
    failed.push_back(absl::StrCat(check.name(), " is ", check.value(),
                                  ", allowed is ", check.bound(), " (",
                                  check.detail(), ")"));
  }
  return absl::StrJoin(failed, "; ");
}

}  // namespace latticed
