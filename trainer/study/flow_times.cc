#include "trainer/study/flow_times.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "core/make_flow.h"
#include "core/stats/observables.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

// Whether m_eff is measured at every distance: where Gt is noise, the mean over
// what happens to be finite means nothing.
bool HasMass(const std::map<std::string, Estimate>& observables, int64_t l) {
  for (int64_t t = 1; t <= l / 2; ++t) {
    const Estimate& mass = observables.at(absl::StrCat("m_eff_", t));
    if (!(mass.error < std::abs(mass.value))) return false;
  }
  return true;
}

}  // namespace

std::vector<Table> FlowTimeTables() {
  return {{"flow_time",
           "observables of the field at intermediate flow times, draws not "
           "reweighted",
           Join({{{"L", "extent of the lattice"}, {"t", "flow time"}},
                 EstimateColumns("chi_2", "V <M^2>"),
                 EstimateColumns(
                     "xi",
                     "from m_eff; empty where that is not measured at every "
                     "distance: in an uncorrelated field, and in one whose "
                     "Gt(r) has no cosh in it"),
                 EstimateColumns("xi_2nd",
                                 "second-moment correlation length; empty "
                                 "within two errors of 0"),
                 EstimateColumns("phi2", "<phi^2> per site")})},
          {"two_point", "Gt(r) at intermediate flow times",
           Join({{{"L", ""}, {"t", "flow time"}, {"r", "distance"}},
                 EstimateColumns("Gt", "averaged over both axes")})}};
}

absl::StatusOr<Rows> FlowTimes(const StudyRun& run, int64_t l) {
  constexpr int64_t kDraws = 16384, kBatch = 256;
  const auto trained = FlowOf(run, FlowKind::kGated, l);
  if (!trained.ok()) return trained.status();
  const v1::ModelSpec& spec = trained->checkpoint.manifest.spec();
  const auto parameters =
      WeightsToParameters(MakeLayout(spec), trained->checkpoint.weights);
  if (!parameters.ok()) return parameters.status();
  const c10::NoGradGuard no_grad;
  const auto flow = MakeFlow(
      spec,
      at::tensor(at::ArrayRef<float>(parameters->data(), parameters->size())));
  const auto base = MakeBase(spec);
  const StreamId stream = NamedStream(absl::StrCat("study/flow times/", l));
  const int64_t sites = l * l;
  std::vector<std::vector<Measurement>> at_time(flow->Stages() + 1);
  for (int64_t first = 0; first < std::min(kDraws, run.options.draws);
       first += kBatch) {
    if (run.stop->load()) return absl::CancelledError("stopped");
    at::Tensor normals = at::empty({kBatch, l, l}, at::kFloat);
    for (int64_t i = 0; i < kBatch; ++i) {
      Normals(stream, first + i, Purpose::kBaseDraw,
              absl::MakeSpan(normals.data_ptr<float>() + i * sites, sites));
    }
    Draw draw = base->FromNormals(normals);
    for (int64_t stage = 0;; ++stage) {
      const at::Tensor phi = draw.phi.contiguous();
      for (int64_t i = 0; i < kBatch; ++i) {
        at_time[stage].push_back(Measure(
            {phi.data_ptr<float>() + i * sites, static_cast<size_t>(sites)}, l,
            l, /*action=*/0));
      }
      if (stage == flow->Stages()) break;
      draw = flow->ForwardStage(stage, draw);
    }
  }
  Rows rows;
  for (size_t stage = 0; stage < at_time.size(); ++stage) {
    const auto observables = EstimateIndependent(at_time[stage], {}, l, l);
    const double t =
        static_cast<double>(stage) / static_cast<double>(flow->Stages());
    const auto start = [&] {
      return Row().Set("L", static_cast<double>(l)).Set("t", t);
    };
    Row row = start();
    for (const char* name : {"chi_2", "phi2"}) {
      row.Set(name, observables.at(name));
    }
    if (const Estimate xi_2nd = observables.at("xi_2nd");
        xi_2nd.value > 2 * xi_2nd.error) {
      row.Set("xi_2nd", xi_2nd);
    }
    if (HasMass(observables, l)) row.Set("xi", observables.at("xi"));
    rows["flow_time"].push_back(row);
    for (int64_t r = 0; r <= l / 2; ++r) {
      rows["two_point"].push_back(
          start()
              .Set("r", static_cast<double>(r))
              .Set("Gt", observables.at(absl::StrCat("Gt_", r))));
    }
  }
  return rows;
}

}  // namespace latticed
