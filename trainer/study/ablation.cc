// fig5: the equivariant flow without the point group of its kernels, without
// phi -> -phi, and without both (2110.02673 fig. 5).
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "trainer/study/curves.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

constexpr int kSeeds = 3;
constexpr double kEssReached = 0.9;

constexpr FlowKind kVariants[] = {FlowKind::kFull, FlowKind::kWithoutD4,
                                  FlowKind::kWithoutZ2, FlowKind::kWithoutBoth};

absl::StatusOr<Rows> Train(const StudyRun& run, int64_t l, FlowKind variant,
                           int seed) {
  auto flow = FlowOf(run, variant, l, seed);
  if (!flow.ok()) return flow.status();
  for (Row& row : flow->curve) {
    row.Set("L", static_cast<double>(l))
        .Set("variant", FlowName(variant))
        .Set("seed", seed);
  }
  Row end = flow->curve.back();
  return Rows{{"curve", std::move(flow->curve)}, {"training", {end}}};
}

struct Spread {
  double mean = 0, deviation = 0, count = 0;  // NaN for no values
};

Spread Over(const std::vector<double>& values) {
  Spread spread;
  spread.count = static_cast<double>(values.size());
  for (const double value : values) spread.mean += value;
  spread.mean /= spread.count;
  double squares = 0;
  for (const double value : values) {
    squares += (value - spread.mean) * (value - spread.mean);
  }
  spread.deviation = std::sqrt(squares / (spread.count - 1));
  return spread;
}

struct Welch {
  double difference, t, degrees_of_freedom;  // Welch-Satterthwaite
};

Welch WelchTest(const Spread& a, const Spread& b) {
  const double difference = a.mean - b.mean;
  const double var_a = a.deviation * a.deviation / a.count;
  const double var_b = b.deviation * b.deviation / b.count;
  const double var = var_a + var_b;
  return {difference, difference / std::sqrt(var),
          var * var /
              (var_a * var_a / (a.count - 1) + var_b * var_b / (b.count - 1))};
}

}  // namespace

Study AblationStudy() {
  Study study;
  study.name = "fig5";
  study.about =
      "ablation of the symmetries, three seeds each with the same steps";
  study.lattices = {6};
  const std::vector<Column> curve =
      Join({{{"L", "extent of the lattice"},
             {"variant", "full, without-d4, without-z2 or without-both"},
             {"seed", "of the training"}},
            CurveColumns()});
  study.tables = {
      {"curve", "quality of the averaged weights during training", curve},
      {"training", "the end of each training", curve},
      {"ablation",
       "over the seeds",
       {{"L", ""},
        {"variant", ""},
        {"seeds", "trainings"},
        {"steps", "of each; empty if they differ"},
        {"ess", "mean over the seeds"},
        {"ess_spread", "standard deviation over the seeds"},
        {"acceptance", "mean over the seeds"},
        {"acceptance_spread", "standard deviation over the seeds"},
        {"difference", "ESS of the full flow minus this one's"},
        {"t", "difference over its standard error (Welch)"},
        {"degrees_of_freedom", "of t (Welch-Satterthwaite)"},
        {"draws_to_ess",
         "configurations drawn until ESS 0.9, geometric mean over the seeds; "
         "empty if one does not get there"},
        {"log_draws_spread",
         "standard deviation over the seeds, of the natural logarithm"},
        {"draws_ratio", "draws_to_ess over the full flow's"},
        {"draws_t",
         "difference of the logarithms over its standard error (Welch)"},
        {"draws_degrees_of_freedom", "of draws_t"}}}};
  study.pieces = [](const std::vector<int64_t>& lattices) {
    std::vector<Piece> pieces;
    for (const int64_t l : lattices) {
      // Seed by seed, so that an interrupted study compares like with like.
      for (int seed = 1; seed <= kSeeds; ++seed) {
        for (const FlowKind variant : kVariants) {
          pieces.push_back(
              {StudyModel(variant, l, seed), [=](const StudyRun& run) {
                 return Train(run, l, variant, seed);
               }});
        }
      }
    }
    return pieces;
  };
  study.derive = [](Rows* rows) {
    std::map<double, std::map<std::string, std::vector<double>>> ess, accepted,
        log_draws;
    std::map<double, std::set<double>> steps;
    for (const Row& row : (*rows)["training"]) {
      const double l = row.Number("L");
      steps[l].insert(row.Number("step"));
      ess[l][row.Text("variant")].push_back(row.Number("ess"));
      accepted[l][row.Text("variant")].push_back(row.Number("acceptance"));
      std::vector<Row> curve;
      absl::c_copy_if((*rows)["curve"], std::back_inserter(curve),
                      [&row](const Row& point) {
                        return point.Text("model") == row.Text("model");
                      });
      log_draws[l][row.Text("variant")].push_back(
          std::log(ReachOf(curve, "ess", kEssReached).draws));
    }
    for (auto& [l, variants] : ess) {
      const Spread full = Over(variants["full"]);
      const Spread full_draws = Over(log_draws[l]["full"]);
      for (const FlowKind variant : kVariants) {
        const std::string name = FlowName(variant);
        if (variants[name].empty()) continue;  // its pieces failed
        const Spread own = Over(variants[name]);
        const Spread acceptance = Over(accepted[l][name]);
        const Spread draws = Over(log_draws[l][name]);
        Row row;
        row.Set("L", l)
            .Set("variant", name)
            .Set("seeds", own.count)
            .Set("steps", steps[l].size() == 1 ? *steps[l].begin() : NAN)
            .Set("ess", own.mean)
            .Set("ess_spread", own.deviation)
            .Set("acceptance", acceptance.mean)
            .Set("acceptance_spread", acceptance.deviation)
            .Set("draws_to_ess", std::exp(draws.mean))
            .Set("log_draws_spread", draws.deviation);
        if (variant != FlowKind::kFull) {
          const Welch end = WelchTest(full, own);
          const Welch way = WelchTest(draws, full_draws);
          row.Set("difference", end.difference)
              .Set("t", end.t)
              .Set("degrees_of_freedom", end.degrees_of_freedom)
              .Set("draws_ratio", std::exp(way.difference))
              .Set("draws_t", way.t)
              .Set("draws_degrees_of_freedom", way.degrees_of_freedom);
        }
        (*rows)["ablation"].push_back(row);
      }
    }
  };
  return study;
}

}  // namespace latticed
