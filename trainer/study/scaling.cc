// scaling: training cost to a fixed acceptance against L, for coupling flows
// (1904.12072 table 1, 2105.12481 fig. 5) and ours; and the field at
// intermediate flow times.
#include <cmath>
#include <map>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "trainer/study/curves.h"
#include "trainer/study/flow_times.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

// The two of 2105.12481, and one that the coupling flows reach too.
constexpr double kTargets[] = {0.3, 0.5, 0.7};

void Costs(Rows* rows) {
  std::map<std::pair<std::string, double>, std::vector<Row>> curves;
  for (const Row& row : (*rows)["curve"]) {
    curves[{row.Text("flow"), row.Number("L")}].push_back(row);
  }
  struct Points {
    std::vector<double> log_l, log_seconds, log_draws;
    std::vector<std::pair<double, double>> missed;  // log L, log whole training
  };
  std::map<std::pair<std::string, double>, Points> all;
  for (const auto& [key, curve] : curves) {
    const double whole = curve.back().Number("core_seconds");
    const double log_l = std::log(key.second);
    for (const double target : kTargets) {
      const Reach reach = ReachOf(curve, "acceptance", target);
      Row row;
      row.Set("flow", key.first)
          .Set("L", key.second)
          .Set("target", target)
          .Set("best_acceptance", Best(curve, "acceptance"))
          .Set("core_seconds_total", whole);
      SetReach(reach, &row);
      (*rows)["cost"].push_back(std::move(row));
      Points& points = all[{key.first, target}];
      if (reach.limit == Reach::kLower) {
        points.missed.emplace_back(log_l, std::log(whole));
      } else if (reach.limit == Reach::kNone) {
        points.log_l.push_back(log_l);
        points.log_seconds.push_back(std::log(reach.core_seconds));
        points.log_draws.push_back(std::log(reach.draws));
      }
    }
  }
  for (const auto& [key, points] : all) {
    if (points.log_l.size() < 2) continue;
    const LineFit seconds = FitLine(points.log_l, points.log_seconds);
    const LineFit draws = FitLine(points.log_l, points.log_draws);
    const auto missed_longer = absl::c_count_if(
        points.missed, [&seconds](const std::pair<double, double>& missed) {
          return missed.second >
                 seconds.intercept + seconds.slope * missed.first;
        });
    (*rows)["fit"].push_back(
        Row()
            .Set("flow", key.first)
            .Set("target", key.second)
            .Set("points", static_cast<double>(points.log_l.size()))
            .Set("missed", static_cast<double>(points.missed.size()))
            .Set("missed_longer", static_cast<double>(missed_longer))
            .Set("exponent", Estimate{seconds.slope, seconds.slope_error})
            .Set("core_seconds_at_1", std::exp(seconds.intercept))
            .Set("draws_exponent", Estimate{draws.slope, draws.slope_error}));
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
             {"missed", "lattices that did not"},
             {"missed_longer",
              "of these, those whose training lasted longer than the law says: "
              "with one of them the exponent is a lower bound"}},
            EstimateColumns("exponent", "z of core_seconds = c L^z"),
            {{"core_seconds_at_1", "c"}},
            EstimateColumns("draws_exponent", "z of draws = c L^z")});
  study.tables = {
      {"curve", "quality of the averaged weights during training", curve},
      {"cost", "processor time of training until an acceptance",
       Join({{{"flow", ""}, {"L", ""}, {"target", "acceptance"}},
             ReachColumns(),
             {{"best_acceptance", "on the curve"},
              {"core_seconds_total", "of the training"}}})},
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
