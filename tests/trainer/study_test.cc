// Studies at L = 4: what their data files say, and that nothing is lost.
#include "trainer/study/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "core/checkpoint/repository.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "google/protobuf/util/json_util.h"
#include "tests/support/statistics.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/trainer/study_files.h"
#include "trainer/optimizer.h"
#include "trainer/spec_file.h"
#include "trainer/study/curves.h"
#include "trainer/study/ensembles.h"
#include "trainer/study/table.h"

namespace latticed {
namespace {

using testing::AllOf;
using testing::Contains;

using testing::HasSubstr;

// Remembers what was said, stops at a line that contains `stop_at`.
class Listener final : public Progress {
 public:
  Listener() : Progress(/*quiet=*/true) {}
  void Say(const std::string& line) override {
    lines.push_back(line);
    if (!stop_at.empty() && line.find(stop_at) != std::string::npos) {
      stop.store(true);
    }
  }
  std::string stop_at;
  std::atomic<bool> stop{false};
  std::vector<std::string> lines;
};

StudyOptions Options(const std::string& study, const std::string& output) {
  StudyOptions options;
  options.study = study;
  options.output = output;
  options.lattices = {4};
  // Of the published flow a step takes 2 s with sanitizers.
  options.budget_minutes = 0.15;
  options.draws = 4096;
  options.updates = 20000;
  options.command = "the command";
  return options;
}

// One folder for all: they share their trainings.
class StudyTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory;
    SetComputeThreads(1);
  }
  static void TearDownTestSuite() { delete folder_; }

  static absl::Status Run(const StudyOptions& options) {
    Listener listener;
    return RunStudy(options, &listener, listener.stop);
  }
  static absl::Status Run(const std::string& study) {
    return Run(Options(study, folder_->path()));
  }
  static std::vector<Row> Table(const std::string& study,
                                const std::string& table) {
    return ReadJson(folder_->File(study + "/" + table + ".json"));
  }

  static TemporaryDirectory* folder_;
};
TemporaryDirectory* StudyTest::folder_ = nullptr;

TEST_F(StudyTest, TrainingCurvesEndInWhatIsPublished) {
  ASSERT_THAT(Run("fig1"), IsOk());
  const std::vector<Row> curve = Table("fig1", "curve");
  for (const FlowKind kind :
       {FlowKind::kGated, FlowKind::kPublished, FlowKind::kRealNvp}) {
    const auto points = Where(curve, {{"flow", FlowName(kind)}});
    ASSERT_FALSE(points.empty());
    for (size_t i = 1; i < points.size(); ++i) {
      EXPECT_GT(points[i].Number("seconds"), points[i - 1].Number("seconds"));
      EXPECT_GT(points[i].Number("draws"), points[i - 1].Number("draws"));
      EXPECT_GT(points[i].Number("core_seconds"), 0);
    }
    const auto checkpoint =
        ReadVersion(folder_->File("models"), StudyModel(kind, 4), 1);
    ASSERT_THAT(checkpoint, IsOk());
    const v1::Quality& quality = checkpoint->manifest.quality();
    EXPECT_EQ(points.back().Number("ess"), quality.ess());
    EXPECT_EQ(points.back().Number("acceptance"), quality.acceptance());
    EXPECT_EQ(points.back().Number("step"),
              checkpoint->manifest.training().step());
    EXPECT_EQ(checkpoint->manifest.training().command(), "the command");
  }
  // Two seconds are enough for the gated flow at this size.
  const std::vector<Row> times = Table("fig1", "time_to");
  EXPECT_GT(Where(times, {{"flow", "gated"}}).at(0).Number("best_ess"), 0.9);
  EXPECT_EQ(Where(times, {{"flow", "gated"}}).at(0).Number("target_ess"),
            Where(curve, {{"flow", "realnvp"}}).back().Number("ess"));
}

TEST_F(StudyTest, Table1AgreesWithMonteCarlo) {
  ASSERT_THAT(Run("table1"), IsOk());
  const std::vector<Row> rows = Table("table1", "table1");
  ASSERT_EQ(rows.size(), 2u);  // the paper has no L = 4
  const Row flow = Where(rows, {{"source", "flow"}}).at(0);
  const Row chain = Where(rows, {{"source", "Monte Carlo"}}).at(0);
  for (const char* name : {"chi_2", "m_p_L"}) {
    const std::string error = std::string(name) + "_error";
    EXPECT_THAT(
        flow.Number(name),
        IsWithinErrors(chain.Number(name),
                       CombinedError(flow.Number(error), chain.Number(error))))
        << name;
  }
  EXPECT_EQ(flow.Number("lambda"), EnsembleLambda(4));
  EXPECT_EQ(flow.Number("samples"), 4096);
  EXPECT_GT(flow.Number("ess"), 0.9);
  const std::vector<Row> agreement = Table("table1", "agreement");
  ASSERT_EQ(agreement.size(), 2u);
  for (const Row& row : agreement) {
    EXPECT_LT(std::abs(row.Number("errors")), 5);
  }
}

TEST_F(StudyTest, Table1TakesFlowsAndReferencesFromARepository) {
  ASSERT_THAT(Run("table1"), IsOk());  // trains phi4-l4
  StudyOptions options = Options("table1", folder_->File("given"));
  options.repository = folder_->File("models");
  EXPECT_THAT(Run(options),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("1 of 2 pieces failed"),
                             HasSubstr("latticed-train reference"))));
  // What could be made is there all the same.
  EXPECT_EQ(ReadJson(folder_->File("given/table1/table1.json")).size(), 1u);

  v1::ReferenceManifest reference;
  const v1::ModelSpec spec = StudySpec(FlowKind::kGated, 4).model();
  *reference.mutable_action() = spec.action();
  *reference.mutable_lattice() = spec.lattice();
  for (const char* name : {"chi_2", "m_p_L"}) {
    (*reference.mutable_observables())[name].set_value(1.5);
    (*reference.mutable_observables())[name].set_error(0.25);
  }
  reference.set_updates(77);
  ASSERT_THAT(WriteReference(options.repository, "phi4-l4", reference, {}),
              IsOk());
  ASSERT_THAT(Run(options), IsOk());
  const Row row = Where(ReadJson(folder_->File("given/table1/table1.json")),
                        {{"source", "Monte Carlo"}})
                      .at(0);
  EXPECT_EQ(row.Number("chi_2"), 1.5);
  EXPECT_EQ(row.Number("m_p_L_error"), 0.25);
  EXPECT_EQ(row.Number("samples"), 77);
  EXPECT_FALSE(std::filesystem::exists(folder_->File("given/models")));

  // A reference of other couplings, a flow of another lattice.
  reference.mutable_action()->mutable_phi4()->mutable_latticed()->set_lambda(9);
  ASSERT_THAT(WriteReference(options.repository, "phi4-l4", reference, {}),
              IsOk());
  auto flow = ReadVersion(options.repository, "phi4-l4", 1);
  ASSERT_THAT(flow, IsOk());
  ASSERT_THAT(
      Publish(options.repository, "phi4-l6", flow->manifest, flow->weights),
      IsOk());
  options.output = folder_->File("wrong");
  options.lattices = {4, 6};
  Listener listener;
  EXPECT_THAT(RunStudy(options, &listener, listener.stop),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("3 of 5 pieces failed"),
                             HasSubstr("lambda = 8"))));
  EXPECT_THAT(listener.lines, Contains(AllOf(HasSubstr("flow-l6"),
                                             HasSubstr("not the gated flow"))));
  std::filesystem::remove_all(folder_->File("models/phi4-l6"));

  options.output = folder_->File("missing");
  options.lattices = {6};
  EXPECT_THAT(Run(options),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("phi4-l6")));
}

TEST_F(StudyTest, AblationComparesOverSeeds) {
  StudyOptions options = Options("fig5", folder_->path());
  options.budget_minutes = 0.02;
  options.draws = 1024;
  ASSERT_THAT(Run(options), IsOk());
  std::map<std::string, std::vector<double>> ess;
  const std::vector<Row> trainings = Table("fig5", "training");
  for (const Row& row : trainings) {
    EXPECT_EQ(row.Number("step"), trainings.front().Number("step"));
    ess[row.Text("variant")].push_back(row.Number("ess"));
    const auto checkpoint =
        ReadVersion(folder_->File("models"), row.Text("model"), 1);
    ASSERT_THAT(checkpoint, IsOk());
    const auto& flow = checkpoint->manifest.spec().flow().position_space();
    EXPECT_EQ(flow.without_point_group(),
              row.Text("variant") == "without-d4" ||
                  row.Text("variant") == "without-both");
    EXPECT_EQ(flow.without_z2(), row.Text("variant") == "without-z2" ||
                                     row.Text("variant") == "without-both");
    EXPECT_EQ(checkpoint->manifest.training().spec().seed(),
              row.Number("seed"));
  }
  ASSERT_EQ(ess.size(), 4u);
  const auto mean = [](const std::vector<double>& v) {
    return (v[0] + v[1] + v[2]) / 3;
  };
  const auto variance = [&](const std::vector<double>& v) {
    double sum = 0;
    for (const double value : v) sum += std::pow(value - mean(v), 2);
    return sum / 2;
  };
  for (const Row& row : Table("fig5", "ablation")) {
    const auto& own = ess[row.Text("variant")];
    const auto& full = ess["full"];
    ASSERT_EQ(own.size(), 3u);
    EXPECT_NEAR(row.Number("ess"), mean(own), 1e-12);
    EXPECT_NEAR(row.Number("ess_spread"), std::sqrt(variance(own)), 1e-12);
    if (row.Text("variant") == "full") continue;
    EXPECT_NEAR(row.Number("t"),
                (mean(full) - mean(own)) /
                    std::sqrt((variance(full) + variance(own)) / 3),
                1e-6);
  }
}

TEST_F(StudyTest, ImagesSpreadByWhatAFlowHasNot) {
  ASSERT_THAT(Run("fig2"), IsOk());
  std::map<std::string, std::map<std::string, double>> largest;
  for (const Row& row : Table("fig2", "spread")) {
    largest[row.Text("flow")][row.Text("symmetry")] = row.Number("max");
  }
  // float32 fields: log q of 16 sites is good to a few 1e-5.
  constexpr double kRounding = 1e-3, kVisible = 1e-2;
  for (const char* symmetry : {"translation", "point group", "sign"}) {
    EXPECT_LT(largest.at("gated").at(symmetry), kRounding) << symmetry;
    EXPECT_LT(largest.at("published").at(symmetry), kRounding) << symmetry;
    EXPECT_GT(largest.at("realnvp").at(symmetry), kVisible) << symmetry;
  }
  EXPECT_LT(largest.at("affine").at("sign"), kRounding);  // its nets are odd
  EXPECT_GT(largest.at("affine").at("translation"), kVisible);
  EXPECT_GT(largest.at("spline").at("translation"), kVisible);
  // What each of the ablation has lost, after few steps, and only that.
  for (const auto& [flow, d4, z2] :
       {std::tuple("full", true, true), std::tuple("without-d4", false, true),
        std::tuple("without-z2", true, false),
        std::tuple("without-both", false, false)}) {
    const auto& of_flow = largest.at(flow);
    EXPECT_LT(of_flow.at("translation"), kRounding) << flow;
    EXPECT_EQ(of_flow.at("point group") < kRounding, d4) << flow;
    EXPECT_EQ(of_flow.at("sign") < kRounding, z2) << flow;
  }

  // The images are images: they all have the action of the original.
  std::map<std::pair<std::string, double>, double> action;
  size_t images = 0;
  for (const Row& row : Table("fig2", "images")) {
    const auto [first, is_new] =
        action.emplace(std::pair(row.Text("flow"), row.Number("configuration")),
                       row.Number("action"));
    EXPECT_NEAR(row.Number("action"), first->second, 1e-3);
    images += row.Text("flow") == "gated";
  }
  EXPECT_EQ(images, 8u * (16 + 8 + 2));
}

TEST_F(StudyTest, TimeKernelsSumToOneAndOrbitsFillTheLattice) {
  ASSERT_THAT(Run("fig3"), IsOk());
  std::map<double, double> sum;
  for (const Row& row : Table("fig3", "time_kernel")) {
    sum[row.Number("t")] += row.Number("weight");
  }
  EXPECT_EQ(sum.size(), 129u);
  for (const auto& [t, total] : sum) EXPECT_NEAR(total, 1, 1e-12) << t;
  const std::vector<Row> sites = Table("fig3", "orbits");
  EXPECT_EQ(sites.size(), 16u);
  std::map<double, std::pair<double, double>> orbits;  // counted, stated
  for (const Row& row : sites) {
    orbits[row.Number("orbit")].first += 1;
    orbits[row.Number("orbit")].second = row.Number("size");
  }
  EXPECT_EQ(orbits.size(), 6u);  // (L/2 + 1)(L/2 + 2) / 2
  for (const auto& [orbit, sizes] : orbits) {
    EXPECT_EQ(sizes.first, sizes.second);
  }
}

TEST_F(StudyTest, KernelsInPositionSpaceAreTheTransform) {
  ASSERT_THAT(Run("fig4"), IsOk());
  const MomentumOrbits orbits({4, 4});
  using Kernel = std::tuple<double, double, double>;  // t, gate, feature
  std::map<Kernel, std::vector<double>> momentum, position;
  const auto key = [](const Row& row) {
    return Kernel(row.Number("t"), row.Number("gate"), row.Number("feature"));
  };
  for (const Row& row : Table("fig4", "momentum")) {
    momentum[key(row)].push_back(row.Number("kernel"));
  }
  for (const Row& row : Table("fig4", "position")) {
    position[key(row)].push_back(row.Number("kernel"));
  }
  ASSERT_EQ(momentum.size(), 9u * 4 * 9);
  double largest = 0;
  for (const auto& [kernel, khat] : momentum) {
    // K(0) is the mean of Khat; Khat(0) the sum of K: orbit 0 comes first.
    double mean = 0, sum = 0;
    for (int64_t o = 0; o < orbits.count(); ++o) {
      mean += orbits.size[o] * khat[o] / 16;
      sum += orbits.size[o] * position[kernel][o];
    }
    EXPECT_NEAR(position[kernel][0], mean, 1e-9);
    EXPECT_NEAR(sum, khat[0], 1e-9);
    largest = std::max(largest, std::abs(khat[0]));
  }
  EXPECT_GT(largest, 0.01);
  EXPECT_EQ(Table("fig4", "frequencies").size(), 8u + 3);
}

TEST_F(StudyTest, ScalingStartsAtTheBaseDistribution) {
  ASSERT_THAT(Run("scaling"), IsOk());
  const std::vector<Row> times = Table("scaling", "flow_time");
  ASSERT_EQ(times.size(), 9u);  // eight Runge-Kutta steps
  EXPECT_EQ(times.front().Number("t"), 0);
  EXPECT_EQ(times.back().Number("t"), 1);
  // Standard normal: <phi^2> = 1 and V <M^2> = 1.
  for (const char* name : {"phi2", "chi_2"}) {
    EXPECT_THAT(
        times.front().Number(name),
        IsWithinErrors(1, times.front().Number(std::string(name) + "_error")));
  }
  // The base is uncorrelated, what is drawn has xi of about 1.
  EXPECT_TRUE(std::isnan(times.front().Number("xi")));
  EXPECT_GT(times.back().Number("xi"), 0.5);
  // Gt is a sum to chi_2: chi_2 = L sum_r Gt(r), with Gt(3) = Gt(1).
  std::vector<double> gt;
  for (const Row& row : Table("scaling", "two_point")) {
    if (row.Number("t") == 1) gt.push_back(row.Number("Gt"));
  }
  ASSERT_EQ(gt.size(), 3u);
  EXPECT_NEAR(times.back().Number("chi_2"), 4 * (gt[0] + 2 * gt[1] + gt[2]),
              1e-6);
  const auto costs = Where(Table("scaling", "cost"), {{"flow", "gated"}});
  ASSERT_EQ(costs.size(), 3u);
  for (const Row& row : costs) {
    EXPECT_GT(row.Number("best_acceptance"), row.Number("target"));
  }
}

TEST_F(StudyTest, ClassicalSamplersAgree) {
  ASSERT_THAT(Run("classical"), IsOk());
  const std::vector<Row> rows = Table("classical", "samplers");
  ASSERT_EQ(rows.size(), 4u);
  const Row& cluster = rows.front();
  EXPECT_EQ(cluster.Text("sampler"), "cluster");
  for (const Row& row : rows) {
    EXPECT_THAT(row.Number("chi_2"),
                IsWithinErrors(cluster.Number("chi_2"),
                               CombinedError(cluster.Number("chi_2_error"),
                                             row.Number("chi_2_error"))))
        << row.Text("sampler");
    EXPECT_GT(row.Number("core_seconds_per_update"), 0);
    if (row.Text("sampler") == "flow reweighted") continue;
    EXPECT_NEAR(
        row.Number("core_seconds_per_independent"),
        2 * row.Number("tau_int") * row.Number("core_seconds_per_update"),
        1e-12);
    // Half a cluster's sweep is accepted, most of the others.
    EXPECT_GT(row.Number("acceptance"), 0.4) << row.Text("sampler");
  }
  // An update leaves part of chi_2 as it was; draws are nearly independent.
  EXPECT_GT(cluster.Number("tau_int"), 1);
  const Row chain = Where(rows, {{"sampler", "flow chain"}}).at(0);
  EXPECT_LT(chain.Number("tau_int"), 1);
  const std::vector<Row> verdicts = Table("classical", "verdict");
  ASSERT_EQ(verdicts.size(), 4u);
  EXPECT_EQ(Where(verdicts, {{"flow", "chain"}}).size(), 2u);
  for (const Row& row : verdicts) {
    const Row flow =
        Where(rows, {{"sampler", "flow " + row.Text("flow")}}).at(0);
    const Row other = Where(rows, {{"sampler", row.Text("against")}}).at(0);
    const double ratio = flow.Number("core_seconds_per_independent") /
                         other.Number("core_seconds_per_independent");
    EXPECT_NEAR(row.Number("cost_ratio"), ratio, 1e-9 * ratio);
    EXPECT_EQ(row.Text("cheaper"), ratio < 1 ? "flow" : row.Text("against"));
  }
}

TEST_F(StudyTest, InterruptedItGoesOnToTheSameTables) {
  const StudyOptions options = Options("fig3", folder_->File("whole"));
  StudyOptions pieces = Options("fig3", folder_->File("pieces"));
  pieces.lattices = {4, 6, 8};
  Listener listener;
  listener.stop_at = "1/3";  // before the second piece
  EXPECT_THAT(RunStudy(pieces, &listener, listener.stop),
              StatusIs(absl::StatusCode::kCancelled,
                       AllOf(HasSubstr("1 of 3 pieces are kept"),
                             HasSubstr("goes on"))));
  const std::string first = folder_->File("pieces/fig3/pieces/l4.json");
  EXPECT_FALSE(
      std::filesystem::exists(folder_->File("pieces/fig3/pieces/l6.json")));
  ASSERT_THAT(Run(options), IsOk());
  EXPECT_EQ(Contents(first),
            Contents(folder_->File("whole/fig3/pieces/l4.json")));
  const auto written = std::filesystem::last_write_time(first);
  ASSERT_THAT(Run(pieces), IsOk());
  EXPECT_EQ(std::filesystem::last_write_time(first), written);
  EXPECT_EQ(ReadJson(folder_->File("pieces/fig3/orbits.json")).size(),
            16u + 36 + 64);
}

TEST_F(StudyTest, AnInterruptedTrainingGoesOnWithItsPlan) {
  StudyOptions options = Options("fig4", folder_->File("interrupted"));
  options.budget_minutes = 0.1;
  Listener listener;
  listener.stop_at = "phi4-l4: step 5,";
  EXPECT_THAT(RunStudy(options, &listener, listener.stop),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("state saved")));
  const std::string plan =
      Contents(folder_->File("interrupted/trainings/phi4-l4.textproto"));
  options.budget_minutes = 100;  // is for new trainings only
  ASSERT_THAT(Run(options), IsOk());
  EXPECT_EQ(Contents(folder_->File("interrupted/trainings/phi4-l4.textproto")),
            plan);
  const auto curve =
      ReadRows(folder_->File("interrupted/trainings/phi4-l4.json"), "training");
  ASSERT_THAT(curve, IsOk());
  const std::vector<Row> points = curve->at("curve");
  ASSERT_GE(points.size(), 2u);
  for (size_t i = 1; i < points.size(); ++i) {
    EXPECT_GT(points[i].Number("step"), points[i - 1].Number("step"));
  }
}

TEST_F(StudyTest, AGatedFlowTrainsNoLongerThanItsRecipe) {
  StudyOptions options = Options("fig4", folder_->File("long"));
  options.budget_minutes = 1e4;
  Listener listener;
  listener.stop_at = "phi4-l4: step 5,";
  EXPECT_THAT(RunStudy(options, &listener, listener.stop),
              StatusIs(absl::StatusCode::kCancelled));
  const auto plan =
      ReadTrainingSpec(folder_->File("long/trainings/phi4-l4.textproto"));
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(TotalSteps(*plan), TotalSteps(StudySpec(FlowKind::kGated, 4)));
}

TEST_F(StudyTest, ATrainingWhosePlanIsGoneStartsAgain) {
  StudyOptions options = Options("fig4", folder_->File("dropped"));
  options.budget_minutes = 0.1;
  Listener listener;
  listener.stop_at = "phi4-l4: step 5,";
  EXPECT_THAT(RunStudy(options, &listener, listener.stop),
              StatusIs(absl::StatusCode::kCancelled));
  std::filesystem::remove(folder_->File("dropped/trainings/phi4-l4.textproto"));
  options.budget_minutes = 0.02;
  ASSERT_THAT(Run(options), IsOk());
  const auto curve =
      ReadRows(folder_->File("dropped/trainings/phi4-l4.json"), "training");
  ASSERT_THAT(curve, IsOk());
  const auto checkpoint =
      ReadVersion(folder_->File("dropped/models"), "phi4-l4", 1);
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_EQ(curve->at("curve").back().Number("step"),
            checkpoint->manifest.training().step());
  // The old training's seconds are gone with its state.
  EXPECT_LT(checkpoint->manifest.training().core_seconds(), 4);
}

TEST_F(StudyTest, OneProcessTrainsAFlow) {
  // The lock is of an open file: a second one in this process is another.
  StudyOptions options = Options("fig4", folder_->File("locked"));
  options.budget_minutes = 0.1;
  absl::Status second;
  class Starter final : public Progress {
   public:
    Starter() : Progress(true) {}
    void Say(const std::string& line) override {
      if (line.find("phi4-l4: step 5,") != std::string::npos) run();
    }
    std::function<void()> run;
  } starter;
  starter.run = [&] { second = Run(options); };
  const std::atomic<bool> stop{false};
  ASSERT_THAT(RunStudy(options, &starter, stop), IsOk());
  EXPECT_THAT(second,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("phi4-l4.lock: another process trains")));
}

TEST_F(StudyTest, SaysWhatIsWrong) {
  using absl::StatusCode;
  StudyOptions options = Options("fig7", folder_->path());
  EXPECT_THAT(Run(options),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'fig7'"), HasSubstr("table1"),
                             HasSubstr("classical"))));
  options = Options("fig3", "");
  EXPECT_THAT(Run(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("--output")));
  options = Options("fig3", folder_->path());
  options.lattices = {4, 7};
  EXPECT_THAT(Run(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("L = 7")));
  options.lattices = {4, 4};
  EXPECT_THAT(Run(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("twice")));
  options = Options("fig3", folder_->path());
  options.budget_minutes = 0;
  EXPECT_THAT(Run(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("--budget")));
  options = Options("table1", folder_->path());
  options.draws = 10;
  EXPECT_THAT(Run(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("--draws")));
  // Too small for one step: said before anything is trained.
  options = Options("fig4", folder_->File("poor"));
  options.budget_minutes = 1e-5;
  EXPECT_THAT(Run(options),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("too small"), HasSubstr("phi4-l4"))));
  EXPECT_FALSE(std::filesystem::exists(
      folder_->File("poor/trainings/phi4-l4.textproto")));

  std::ofstream(folder_->File("file")) << "not a directory";
  options = Options("fig3", folder_->File("file/output"));
  EXPECT_THAT(Run(options), StatusIs(StatusCode::kFailedPrecondition,
                                     HasSubstr("writable --output")));
  // Pieces of other settings, or damaged, are not mixed in, and the tables
  // stay as they were.
  ASSERT_THAT(Run(Options("fig3", folder_->File("settings"))), IsOk());
  options = Options("fig3", folder_->File("settings"));
  options.draws = 2048;
  EXPECT_THAT(Run(options), StatusIs(StatusCode::kFailedPrecondition,
                                     HasSubstr("draws=4096")));
  EXPECT_EQ(ReadJson(folder_->File("settings/fig3/orbits.json")).size(), 16u);
  std::ofstream(folder_->File("settings/fig3/pieces/l4.json")) << "{";
  EXPECT_THAT(Run(Options("fig3", folder_->File("settings"))),
              StatusIs(StatusCode::kDataLoss, HasSubstr("damaged")));
}

}  // namespace
}  // namespace latticed
