// fig5: the equivariant flow without the point group of its kernels, without
// phi -> -phi, and without both (2110.02673 fig. 5).
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

constexpr int kSeeds = 3;

struct Variant {
  const char* name;
  bool without_point_group, without_z2;
};
constexpr Variant kVariants[] = {{"full", false, false},
                                 {"without-d4", true, false},
                                 {"without-z2", false, true},
                                 {"without-both", true, true}};

// Smaller than the published flow, so that a seed trains in minutes: the
// symmetries are what is compared.
v1::TrainingSpec AblationSpec(int64_t l, const Variant& variant, int seed) {
  v1::TrainingSpec spec = StudySpec(FlowKind::kPublished, l);
  auto& flow = *spec.mutable_model()->mutable_flow()->mutable_position_space();
  flow.set_sine_features(20);
  flow.set_feature_bonds(10);
  flow.set_harmonics(2);
  flow.set_time_bonds(5);
  flow.set_rk4_steps(12);
  flow.set_without_point_group(variant.without_point_group);
  flow.set_without_z2(variant.without_z2);
  spec.set_seed(seed);
  return spec;
}

std::string ModelName(int64_t l, const Variant& variant, int seed) {
  return absl::StrCat("ablation-", variant.name, "-l", l, "-", seed);
}

absl::StatusOr<Rows> Train(const StudyRun& run, int64_t l,
                           const Variant& variant, int seed) {
  auto flow = TrainedFlow(run, ModelName(l, variant, seed),
                          AblationSpec(l, variant, seed),
                          /*steps_of=*/ModelName(l, kVariants[0], 1));
  if (!flow.ok()) return flow.status();
  for (Row& row : flow->curve) {
    row.Set("L", static_cast<double>(l))
        .Set("variant", variant.name)
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
        {"degrees_of_freedom", "of t (Welch-Satterthwaite)"}}}};
  study.pieces = [](const std::vector<int64_t>& lattices) {
    std::vector<Piece> pieces;
    for (const int64_t l : lattices) {
      // Seed by seed, so that an interrupted study compares like with like.
      for (int seed = 1; seed <= kSeeds; ++seed) {
        for (const Variant& variant : kVariants) {
          pieces.push_back(
              {ModelName(l, variant, seed), [=, &variant](const StudyRun& run) {
                 return Train(run, l, variant, seed);
               }});
        }
      }
    }
    return pieces;
  };
  study.derive = [](Rows* rows) {
    std::map<double, std::map<std::string, std::vector<double>>> ess, accepted;
    std::map<double, std::set<double>> steps;
    for (const Row& row : (*rows)["training"]) {
      const double l = row.Number("L");
      steps[l].insert(row.Number("step"));
      ess[l][row.Text("variant")].push_back(row.Number("ess"));
      accepted[l][row.Text("variant")].push_back(row.Number("acceptance"));
    }
    for (auto& [l, variants] : ess) {
      const Spread full = Over(variants["full"]);
      for (const Variant& variant : kVariants) {
        if (variants[variant.name].empty()) continue;  // its pieces failed
        const Spread own = Over(variants[variant.name]);
        const Spread acceptance = Over(accepted[l][variant.name]);
        Row row;
        row.Set("L", l)
            .Set("variant", variant.name)
            .Set("seeds", own.count)
            .Set("steps", steps[l].size() == 1 ? *steps[l].begin() : NAN)
            .Set("ess", own.mean)
            .Set("ess_spread", own.deviation)
            .Set("acceptance", acceptance.mean)
            .Set("acceptance_spread", acceptance.deviation);
        if (&variant != &kVariants[0]) {
          const double a = full.deviation * full.deviation / full.count;
          const double b = own.deviation * own.deviation / own.count;
          row.Set("difference", full.mean - own.mean)
              .Set("t", (full.mean - own.mean) / std::sqrt(a + b))
              .Set("degrees_of_freedom",
                   (a + b) * (a + b) /
                       (a * a / (full.count - 1) + b * b / (own.count - 1)));
        }
        (*rows)["ablation"].push_back(row);
      }
    }
  };
  return study;
}

}  // namespace latticed
