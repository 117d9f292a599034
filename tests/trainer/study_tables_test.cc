// What studies make of their rows, without a training.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "google/protobuf/text_format.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/trainer/study_files.h"
#include "trainer/study/curves.h"
#include "trainer/study/ensembles.h"
#include "trainer/study/specs.h"
#include "trainer/study/study.h"
#include "trainer/study/table.h"

namespace latticed {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const Study& StudyNamed(const std::string& name) {
  for (const Study& study : AllStudies()) {
    if (study.name == name) return study;
  }
  std::abort();
}

TEST(Studies, TimesAreThoseToTheEssOfRealNvp) {
  Rows rows;
  const auto add = [&](const char* flow, double seconds, double ess) {
    rows["curve"].push_back(Row()
                                .Set("L", 4)
                                .Set("flow", flow)
                                .Set("core_seconds", seconds)
                                .Set("ess", ess));
  };
  add("realnvp", 1, 0.1);
  add("realnvp", 100, 0.5);
  add("realnvp", 400, 0.4);
  add("gated", 0.1, 0.2);
  add("gated", 10, 0.6);
  add("published", 50, 0.3);
  StudyNamed("fig1").derive(&rows);
  const auto row = [&](const char* flow, const char* target = "end") {
    return Where(rows["time_to"], {{"flow", flow}, {"target", target}}).at(0);
  };
  EXPECT_EQ(row("gated").Number("target_ess"), 0.4);
  EXPECT_NEAR(row("gated").Number("core_seconds"), 1, 1e-12);
  EXPECT_NEAR(row("realnvp").Number("core_seconds"), std::pow(10, 1.5), 1e-9);
  EXPECT_NEAR(row("gated").Number("speedup"), std::pow(10, 1.5), 1e-9);
  EXPECT_EQ(row("gated").Text("limit"), "");
  EXPECT_TRUE(std::isnan(row("published").Number("core_seconds")));
  EXPECT_EQ(row("published").Text("limit"), "lower");
  EXPECT_EQ(row("published").Number("best_ess"), 0.3);
  // Its best is on the way to its end.
  EXPECT_EQ(row("gated", "best").Number("target_ess"), 0.5);
  EXPECT_NEAR(row("gated", "best").Number("core_seconds"), std::pow(10, 0.5),
              1e-9);
  EXPECT_NEAR(row("realnvp", "best").Number("core_seconds"), 100, 1e-9);
}

TEST(Studies, TheAblationIsWelchsTest) {
  Rows rows;
  const auto add = [&](const char* variant, double step, double ess) {
    rows["training"].push_back(Row()
                                   .Set("L", 6)
                                   .Set("variant", variant)
                                   .Set("step", step)
                                   .Set("ess", ess)
                                   .Set("acceptance", ess));
  };
  for (const double ess : {0.90, 0.92, 0.94}) add("full", 100, ess);
  for (const double ess : {0.80, 0.85, 0.90}) add("without-d4", 100, ess);
  StudyNamed("fig5").derive(&rows);
  ASSERT_EQ(rows["ablation"].size(), 2u);  // of variants with trainings
  const Row row = Where(rows["ablation"], {{"variant", "without-d4"}}).at(0);
  EXPECT_NEAR(row.Number("ess_spread"), 0.05, 1e-12);
  // Variances 0.0004 and 0.0025: t = 0.07 / sqrt(0.0029 / 3), and
  // 2 * 0.0029^2 / (0.0004^2 + 0.0025^2) degrees of freedom.
  EXPECT_NEAR(row.Number("t"), 2.25144, 1e-5);
  EXPECT_NEAR(row.Number("degrees_of_freedom"), 2.62402, 1e-5);
  EXPECT_EQ(row.Number("steps"), 100);
  EXPECT_TRUE(std::isnan(row.Number("draws_to_ess")));  // no curves
  add("without-z2", 99, 0.8);
  rows.erase("ablation");
  StudyNamed("fig5").derive(&rows);
  EXPECT_TRUE(std::isnan(rows["ablation"].front().Number("steps")));
}

TEST(Studies, TheAblationComparesDrawsUntilAnEss) {
  Rows rows;
  const auto add = [&](const char* variant, int seed, double log_draws) {
    const std::string model = absl::StrCat(variant, seed);
    Row row;
    row.Set("L", 6).Set("variant", variant).Set("model", model);
    // ESS 0.9 in the middle of ESS 0.8 and 1, on a logarithmic scale.
    for (const double side : {-1, 1}) {
      rows["curve"].push_back(Row(row)
                                  .Set("draws", std::exp(log_draws + side))
                                  .Set("ess", 0.9 + 0.1 * side));
    }
    rows["training"].push_back(rows["curve"].back());
  };
  int seed = 0;
  for (const double log_draws : {4, 5, 6}) add("full", ++seed, log_draws);
  for (const double log_draws : {6, 8, 10})
    add("without-z2", ++seed, log_draws);
  StudyNamed("fig5").derive(&rows);
  const Row row = Where(rows["ablation"], {{"variant", "without-z2"}}).at(0);
  EXPECT_NEAR(row.Number("draws_to_ess"), std::exp(8), 1e-9 * std::exp(8));
  EXPECT_NEAR(row.Number("log_draws_spread"), 2, 1e-12);
  EXPECT_NEAR(row.Number("draws_ratio"), std::exp(3), 1e-9);
  // Variances 1 and 4.
  EXPECT_NEAR(row.Number("draws_t"), 3 / std::sqrt(5.0 / 3), 1e-12);
  EXPECT_NEAR(row.Number("draws_degrees_of_freedom"), 2 * 25.0 / 17, 1e-12);
}

TEST(Studies, PowerLawsSayWhatDidNotReachTheTarget) {
  Rows rows;
  const auto add = [&](double l, double seconds, double acceptance) {
    rows["curve"].push_back(Row()
                                .Set("L", l)
                                .Set("flow", "affine")
                                .Set("core_seconds", seconds)
                                .Set("draws", seconds * l)
                                .Set("acceptance", acceptance));
  };
  for (const double l : {6, 8, 12}) {  // cost 0.1 L^3 to one half
    add(l, 0.01 * l * l * l, 0.4);
    add(l, l * l * l, 0.6);
  }
  // The law says 0.1 * 20^3 = 800 and 0.1 * 32^3 = 3277.
  add(20, 1, 0.1);
  add(20, 900, 0.25);
  add(32, 1, 0.1);
  add(32, 3000, 0.25);
  StudyNamed("scaling").derive(&rows);
  // Nothing reached 0.7, and 0.3 was passed before the first point.
  ASSERT_EQ(rows["fit"].size(), 1u);
  const Row fit = rows["fit"].front();
  EXPECT_EQ(fit.Number("target"), 0.5);
  EXPECT_NEAR(fit.Number("exponent"), 3, 1e-9);
  EXPECT_NEAR(fit.Number("core_seconds_at_1"), 0.1, 1e-9);
  EXPECT_EQ(fit.Number("points"), 3);
  EXPECT_NEAR(fit.Number("draws_exponent"), 4, 1e-9);
  EXPECT_EQ(fit.Number("missed"), 2);
  EXPECT_EQ(fit.Number("missed_longer"), 1);
  EXPECT_EQ(rows["cost"].size(), 5u * 3);
  const auto early = Where(rows["cost"], {{"limit", "upper"}});
  ASSERT_EQ(early.size(), 3u);
  EXPECT_NEAR(early[0].Number("core_seconds"), 0.01 * 6 * 6 * 6, 1e-12);
}

TEST(Table, KeepsNumbersAndTextInBothForms) {
  const TemporaryDirectory folder;
  const Table table = {"t", "about it", {{"a", "first"}, {"b", ""}}};
  const std::vector<Row> rows = {Row().Set("a", 0.1).Set("b", "say \"x\", y"),
                                 Row().Set("a", std::nan("")).Set("b", "z")};
  ASSERT_THAT(WriteTable(folder.path(), table, rows), IsOk());
  EXPECT_EQ(Contents(folder.File("t.csv")).substr(0, 6), "a,b\n0.");
  EXPECT_THAT(Contents(folder.File("t.csv")),
              AllOf(HasSubstr(",\"say \"\"x\"\", y\"\n"), HasSubstr("\n,z\n")));
  const std::vector<Row> read = ReadJson(folder.File("t.json"));
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].Number("a"), 0.1);
  EXPECT_EQ(read[0].Text("b"), "say \"x\", y");
  EXPECT_TRUE(std::isnan(read[1].Number("a")));
  EXPECT_THAT(WriteTable(folder.path(), table, {Row().Set("c", 1.0)}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("'c'")));
}

TEST(Curves, AreReadByInterpolation) {
  std::vector<Row> curve;
  for (const auto& [seconds, ess] : std::vector<std::pair<double, double>>{
           {1, 0.1}, {10, 0.3}, {100, 0.2}, {1000, 0.7}}) {
    curve.push_back(Row()
                        .Set("core_seconds", seconds)
                        .Set("step", 2 * seconds)
                        .Set("ess", ess));
  }
  EXPECT_EQ(Best(curve, "ess"), 0.7);
  const Reach early = ReachOf(curve, "ess", 0.05);
  EXPECT_EQ(early.limit, Reach::kUpper);
  EXPECT_EQ(early.core_seconds, 1);
  const Reach between = ReachOf(curve, "ess", 0.2);
  EXPECT_EQ(between.limit, Reach::kNone);
  EXPECT_NEAR(between.core_seconds, std::sqrt(10), 1e-12);
  EXPECT_NEAR(between.steps, 2 * std::sqrt(10), 1e-12);
  EXPECT_TRUE(std::isnan(between.draws));  // no such column
  EXPECT_NEAR(ReachOf(curve, "ess", 0.45).core_seconds, std::sqrt(1e5), 1e-9);
  const Reach never = ReachOf(curve, "ess", 0.8);
  EXPECT_EQ(never.limit, Reach::kLower);
  EXPECT_TRUE(std::isnan(never.core_seconds));
}

TEST(Curves, PowerLawsAreFittedWithTheirErrors) {
  // y = 3 + 2x with residuals +-0.1 that are orthogonal to x.
  const LineFit fit = FitLine({0, 1, 2, 3}, {3.1, 4.9, 6.9, 9.1});
  EXPECT_NEAR(fit.slope, 2, 1e-12);
  EXPECT_NEAR(fit.intercept, 3, 1e-12);
  // sqrt(4 * 0.01 / 2 / 5)
  EXPECT_NEAR(fit.slope_error, std::sqrt(0.004), 1e-12);
  EXPECT_TRUE(std::isinf(FitLine({0, 1}, {0, 1}).slope_error));
}

TEST(Ensembles, SpecsAreValidAndBelongToTheirLattice) {
  for (const int64_t l : EnsembleLattices()) {
    for (const FlowKind kind :
         {FlowKind::kGated, FlowKind::kPublished, FlowKind::kRealNvp,
          FlowKind::kAffine, FlowKind::kSpline, FlowKind::kFull,
          FlowKind::kWithoutD4, FlowKind::kWithoutZ2, FlowKind::kWithoutBoth}) {
      // Beyond the limits of nets and of position-space kernels.
      if (l > 32 && kind != FlowKind::kGated) continue;
      if (l > 20 && kind == FlowKind::kSpline) continue;
      const v1::TrainingSpec spec = StudySpec(kind, l);
      EXPECT_THAT(ValidateTrainingSpec(spec), IsOk()) << FlowName(kind) << l;
      EXPECT_EQ(spec.model().lattice().extent(0), l);
      EXPECT_EQ(spec.model().action().phi4().latticed().lambda(),
                EnsembleLambda(l));
      EXPECT_EQ(spec.model().action().phi4().latticed().mass_squared(), -4);
    }
  }
  for (const std::string& name : EmbeddedSpecNames()) {
    v1::TrainingSpec spec;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
        EmbeddedSpec(name), &spec))
        << name;
    EXPECT_THAT(ValidateTrainingSpec(spec), IsOk()) << name;
  }
  // The paper's misprints.
  EXPECT_EQ(PublishedTable1(6)->lambda, EnsembleLambda(6));
  EXPECT_NE(PublishedTable1(20)->lambda, EnsembleLambda(20));
  EXPECT_NE(PublishedTable1(32)->lambda, EnsembleLambda(32));
}

}  // namespace
}  // namespace latticed
