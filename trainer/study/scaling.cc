// scaling: training cost to a fixed acceptance against L, for coupling flows
// (1904.12072 table 1, 2105.12481 fig. 5) and ours; and the field at
// intermediate flow times.
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/study/curves.h"
#include "trainer/study/flow_times.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

constexpr double kTargets[] = {0.5, 0.7};

void Costs(Rows* rows) {
  std::map<std::pair<std::string, double>, std::vector<Row>> curves;
  for (const Row& row : (*rows)["curve"]) {
    curves[{row.Text("flow"), row.Number("L")}].push_back(row);
  }
  struct Points {
    std::vector<double> log_l, log_cost;
    double missed = 0;
  };
  std::map<std::pair<std::string, double>, Points> all;
  for (const auto& [key, curve] : curves) {
    for (const double target : kTargets) {
      const double seconds = TimeTo(curve, "acceptance", target);
      (*rows)["cost"].push_back(
          Row()
              .Set("flow", key.first)
              .Set("L", key.second)
              .Set("target", target)
              .Set("core_seconds", seconds)
              .Set("best_acceptance", Best(curve, "acceptance"))
              .Set("core_seconds_total", curve.back().Number("core_seconds")));
      Points& points = all[{key.first, target}];
      if (std::isfinite(seconds)) {
        points.log_l.push_back(std::log(key.second));
        points.log_cost.push_back(std::log(seconds));
      } else if (!(Best(curve, "acceptance") >= target)) {
        ++points.missed;  // not merely before the first point
      }
    }
  }
  for (const auto& [key, points] : all) {
    if (points.log_l.size() < 2) continue;
    const LineFit fit = FitLine(points.log_l, points.log_cost);
    (*rows)["fit"].push_back(
        Row()
            .Set("flow", key.first)
            .Set("target", key.second)
            .Set("points", static_cast<double>(points.log_l.size()))
            .Set("missed", points.missed)
            .Set("exponent", Estimate{fit.slope, fit.slope_error})
            .Set("core_seconds_at_1", std::exp(fit.intercept)));
  }
}

}  // namespace

Study ScalingStudy() {
  Study study;
  study.name = "scaling";
  study.about = "training cost to an acceptance against L; flow times";
  study.lattices = {6, 8, 10, 12};
  const std::vector<Column> curve = Join(
      {{{"L", "extent of the lattice"}, {"flow", "gated, realnvp or affine"}},
       CurveColumns()});
  const std::vector<Column> fit =
      Join({{{"flow", ""},
             {"target", "acceptance"},
             {"points", "lattices that reached it"},
             {"missed",
              "lattices that did not: the exponent is a lower bound then"}},
            EstimateColumns("exponent", "z of core_seconds = c L^z"),
            {{"core_seconds_at_1", "c"}}});
  study.tables = {
      {"curve", "quality of the averaged weights during training", curve},
      {"cost",
       "processor time of training until an acceptance",
       {{"flow", ""},
        {"L", ""},
        {"target", "acceptance"},
        {"core_seconds", "interpolated in log time; empty: not reached"},
        {"best_acceptance", "on the curve"},
        {"core_seconds_total", "of the training"}}},
      {"fit", "power laws through the costs", fit}};
  for (Table& table : FlowTimeTables()) {
    study.tables.push_back(std::move(table));
  }
  study.pieces = [](const std::vector<int64_t>& lattices) {
    std::vector<Piece> pieces;
    for (const int64_t l : lattices) {
      for (const FlowKind kind :
           {FlowKind::kGated, FlowKind::kRealNvp, FlowKind::kAffine}) {
        pieces.push_back({StudyModel(kind, l), [=](const StudyRun& run) {
                            return CurvePiece(run, kind, l);
                          }});
      }
      pieces.push_back(
          {absl::StrCat("flow-times-l", l),
           [=](const StudyRun& run) { return FlowTimes(run, l); }});
    }
    return pieces;
  };
  study.derive = Costs;
  return study;
}

}  // namespace latticed
