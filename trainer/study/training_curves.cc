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
      {"time_to", "cost of training until the ESS of realNVP",
       Join({{{"L", "extent of the lattice"},
              {"flow", ""},
              {"best_ess", "largest ESS on the flow's own curve"},
              {"target",
               "end: what realNVP's training ends with, on most draws; best: "
               "the largest on its curve"},
              {"target_ess", ""}},
             ReachColumns(),
             {{"core_seconds_total", "of the whole training"},
              {"speedup", "realNVP's time to the target over this flow's"}}})}};
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
      const std::vector<Row>& own = baseline->second;
      for (const auto& [name, target] :
           {std::pair("end", own.back().Number("ess")),
            std::pair("best", Best(own, "ess"))}) {
        const double own_seconds = ReachOf(own, "ess", target).core_seconds;
        for (const auto& [flow, points] : flows) {
          const Reach reach = ReachOf(points, "ess", target);
          Row row;
          row.Set("L", l)
              .Set("flow", flow)
              .Set("best_ess", Best(points, "ess"))
              .Set("target", name)
              .Set("target_ess", target)
              .Set("core_seconds_total", points.back().Number("core_seconds"))
              .Set("speedup", own_seconds / reach.core_seconds);
          SetReach(reach, &row);
          (*rows)["time_to"].push_back(std::move(row));
        }
      }
    }
  };
  return study;
}

}  // namespace latticed
