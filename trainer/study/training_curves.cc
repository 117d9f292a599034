// fig1: ESS and acceptance against training time for the gated flow, the flow
// as published and realNVP (2110.02673 fig. 1).
#include <map>
#include <utility>

#include "trainer/study/curves.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {

Study TrainingStudy() {
  Study study;
  study.name = "fig1";
  study.about = "ESS and acceptance against training time, and time to an ESS";
  study.lattices = {8, 12};
  const std::vector<Column> curve =
      Join({{{"L", "extent of the lattice"},
             {"flow", "gated, published or realnvp"}},
            CurveColumns()});
  study.tables = {
      {"curve", "quality of the averaged weights during training", curve},
      {"time_to",
       "processor time until the ESS that realNVP ends with",
       {{"L", "extent of the lattice"},
        {"flow", ""},
        {"best_ess", "largest ESS on the flow's own curve"},
        {"target_ess", "what realNVP's training ends with"},
        {"core_seconds",
         "until the target, interpolated in log time; empty: "
         "not reached"},
        {"core_seconds_total", "of the whole training"},
        {"speedup", "realNVP's time to the target over this flow's"}}}};
  study.pieces = [](const std::vector<int64_t>& lattices) {
    std::vector<Piece> pieces;
    for (const int64_t l : lattices) {
      for (const FlowKind kind :
           {FlowKind::kGated, FlowKind::kRealNvp, FlowKind::kPublished}) {
        pieces.push_back({StudyModel(kind, l), [=](const StudyRun& run) {
                            return CurvePiece(run, kind, l);
                          }});
      }
    }
    return pieces;
  };
  study.derive = [](Rows* rows) {
    // Points by lattice and flow.
    std::map<double, std::map<std::string, std::vector<Row>>> curves;
    for (const Row& row : (*rows)["curve"]) {
      curves[row.Number("L")][row.Text("flow")].push_back(row);
    }
    for (const auto& [l, flows] : curves) {
      const auto baseline = flows.find("realnvp");
      if (baseline == flows.end()) continue;
      // The learning rate has fallen by then, and the draws are most.
      const double target = baseline->second.back().Number("ess");
      const double own = TimeTo(baseline->second, "ess", target);
      for (const auto& [flow, points] : flows) {
        const double seconds = TimeTo(points, "ess", target);
        (*rows)["time_to"].push_back(
            Row()
                .Set("L", l)
                .Set("flow", flow)
                .Set("best_ess", Best(points, "ess"))
                .Set("target_ess", target)
                .Set("core_seconds", seconds)
                .Set("core_seconds_total", points.back().Number("core_seconds"))
                .Set("speedup", own / seconds));
      }
    }
  };
  return study;
}

}  // namespace latticed
