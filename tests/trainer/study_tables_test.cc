// What studies make of their rows, without a training.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "core/factory.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/trainer/study_files.h"
#include "trainer/study/curves.h"
#include "trainer/study/ensembles.h"
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

TEST(Studies, TimesAreThoseToTheEndOfRealNvp) {
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
  const auto row = [&](const char* flow) {
    return Where(rows["time_to"], {{"flow", flow}}).at(0);
  };
  EXPECT_EQ(row("gated").Number("target_ess"), 0.4);
  EXPECT_NEAR(row("gated").Number("core_seconds"), 1, 1e-12);
  EXPECT_NEAR(row("realnvp").Number("core_seconds"), std::pow(10, 1.5), 1e-9);
  EXPECT_NEAR(row("gated").Number("speedup"), std::pow(10, 1.5), 1e-9);
  EXPECT_TRUE(std::isnan(row("published").Number("core_seconds")));
  EXPECT_EQ(row("published").Number("best_ess"), 0.3);
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
  add("without-z2", 99, 0.8);
  rows.erase("ablation");
  StudyNamed("fig5").derive(&rows);
  EXPECT_TRUE(std::isnan(rows["ablation"].front().Number("steps")));
}

TEST(Studies, PowerLawsSayWhatDidNotReachTheTarget) {
  Rows rows;
  const auto add = [&](double l, double seconds, double acceptance) {
    rows["curve"].push_back(Row()
                                .Set("L", l)
                                .Set("flow", "affine")
                                .Set("core_seconds", seconds)
                                .Set("acceptance", acceptance));
  };
  for (const double l : {6, 8, 12}) {  // cost 0.1 L^3 to one half
    add(l, 0.01 * l * l * l, 0.4);
    add(l, l * l * l, 0.6);
  }
  add(20, 1, 0.1);
  add(20, 8000, 0.3);
  StudyNamed("scaling").derive(&rows);
  ASSERT_EQ(rows["fit"].size(), 1u);  // nothing reached 0.7
  const Row fit = rows["fit"].front();
  EXPECT_NEAR(fit.Number("exponent"), 3, 1e-9);
  EXPECT_NEAR(fit.Number("core_seconds_at_1"), 0.1, 1e-9);
  EXPECT_EQ(fit.Number("points"), 3);
  EXPECT_EQ(fit.Number("missed"), 1);
  EXPECT_EQ(rows["cost"].size(), 4u * 2);
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
    curve.push_back(Row().Set("core_seconds", seconds).Set("ess", ess));
  }
  EXPECT_EQ(Best(curve, "ess"), 0.7);
  EXPECT_TRUE(std::isnan(TimeTo(curve, "ess", 0.05)));  // before all points
  EXPECT_NEAR(TimeTo(curve, "ess", 0.2), std::sqrt(10), 1e-12);
  EXPECT_NEAR(TimeTo(curve, "ess", 0.45), std::sqrt(1e5), 1e-9);
  EXPECT_TRUE(std::isnan(TimeTo(curve, "ess", 0.8)));
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
    for (const FlowKind kind : {FlowKind::kGated, FlowKind::kPublished,
                                FlowKind::kRealNvp, FlowKind::kAffine}) {
      if (l > 32 && kind != FlowKind::kGated) continue;  // beyond the limits
      const v1::TrainingSpec spec = StudySpec(kind, l);
      EXPECT_THAT(ValidateTrainingSpec(spec), IsOk()) << FlowName(kind) << l;
      EXPECT_EQ(spec.model().lattice().extent(0), l);
      EXPECT_EQ(spec.model().action().phi4().latticed().lambda(),
                EnsembleLambda(l));
      EXPECT_EQ(spec.model().action().phi4().latticed().mass_squared(), -4);
    }
  }
  // The paper's misprints.
  EXPECT_EQ(PublishedTable1(6)->lambda, EnsembleLambda(6));
  EXPECT_NE(PublishedTable1(20)->lambda, EnsembleLambda(20));
  EXPECT_NE(PublishedTable1(32)->lambda, EnsembleLambda(32));
}

}  // namespace
}  // namespace latticed
