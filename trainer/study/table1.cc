// table1: table 1 of 2110.02673, with the couplings it prints and with those
// that its observables belong to.
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "core/montecarlo/reference.h"
#include "trainer/study/sample.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

constexpr char kFlow[] = "flow";
constexpr char kMonteCarlo[] = "Monte Carlo";
constexpr char kPaper[] = "2110.02673";
constexpr char kCorrected[] = "corrected", kPrinted[] = "printed";

Row Start(int64_t l, const char* coupling, double lambda, const char* source) {
  Row row;
  row.Set("L", static_cast<double>(l))
      .Set("coupling", coupling)
      .Set("lambda", lambda)
      .Set("source", source);
  return row;
}

// With the versions of the same model that it started from; NaN if it started
// from something else.
double TrainingMinutes(const StudyRun& run, const Checkpoint& checkpoint) {
  const std::string root = run.options.repository.empty()
                               ? run.ModelDirectory()
                               : run.options.repository;
  double seconds = checkpoint.manifest.training().seconds();
  std::string before = checkpoint.manifest.training().started_from();
  for (int64_t version = checkpoint.manifest.version() - 1;
       version > 0 && !before.empty(); --version) {
    const auto older = ReadVersion(root, checkpoint.manifest.model(), version);
    if (!older.ok() || older->digest != before) continue;
    seconds += older->manifest.training().seconds();
    before = older->manifest.training().started_from();
  }
  return before.empty() ? seconds / 60 : NAN;
}

absl::StatusOr<Rows> FlowRow(const StudyRun& run, int64_t l) {
  const auto flow = FlowOf(run, FlowKind::kGated, l);
  if (!flow.ok()) return flow.status();
  const auto sample = DrawSample(flow->checkpoint, run.options.draws,
                                 absl::StrCat("study/table1/", l), *run.stop);
  if (!sample.ok()) return sample.status();
  const auto observables =
      EstimateIndependent(sample->measurements, sample->log_w, l, l);
  Row row = Start(l, kCorrected, EnsembleLambda(l), kFlow);
  row.Set("chi_2", observables.at("chi_2"))
      .Set("m_p_L", observables.at("m_p_L"))
      .Set("samples", static_cast<double>(run.options.draws))
      .Set("minutes", TrainingMinutes(run, flow->checkpoint))
      .Set("digest", flow->checkpoint.digest);
  SetQuality(sample->log_w, static_cast<double>(l * l), &row);
  return Rows{{"table1", {row}}};
}

absl::StatusOr<Rows> MonteCarloRow(const StudyRun& run, int64_t l, bool printed,
                                   double lambda) {
  const char* const coupling = printed ? kPrinted : kCorrected;
  Row row = Start(l, coupling, lambda, kMonteCarlo);
  if (!printed && !run.options.repository.empty()) {
    const std::string model = StudyModel(FlowKind::kGated, l);
    const auto reference = ReadReference(run.options.repository, model);
    if (!reference.ok()) {
      return absl::Status(
          reference.status().code(),
          absl::StrCat(reference.status().message(), "; make ", model,
                       "'s reference with `latticed-train reference`, or leave "
                       "out --repository to have it run here"));
    }
    const v1::ReferenceManifest& manifest = reference->manifest;
    v1::ModelSpec ensemble;
    *ensemble.mutable_action() = manifest.action();
    *ensemble.mutable_lattice() = manifest.lattice();
    const auto& observables = manifest.observables();
    if (!SameEnsemble(ensemble, StudySpec(FlowKind::kGated, l).model()) ||
        !observables.contains("chi_2") || !observables.contains("m_p_L")) {
      return absl::FailedPreconditionError(
          absl::StrCat(run.options.repository, "/", model,
                       "/reference: not chi_2 and m_p_L of lambda = ", lambda,
                       " on ", l, "x", l, "; make it again"));
    }
    for (const char* name : {"chi_2", "m_p_L"}) {
      const v1::Estimate& value = observables.at(name);
      row.Set(name, Estimate{value.value(), value.error()});
    }
    row.Set("samples", static_cast<double>(manifest.updates()));
    return Rows{{"table1", {row}}};
  }
  ReferenceOptions options;
  options.updates = run.options.updates;
  options.progress = [&run](int64_t, int64_t) { return !run.stop->load(); };
  const ReferenceRun chain = RunReference(
      {l, l}, {.mass_squared = -4, .lambda = lambda}, options,
      NamedStream(absl::StrCat("study/table1/", l, "/", coupling)));
  if (!chain.complete) return absl::CancelledError("stopped");
  row.Set("chi_2", chain.observables.at("chi_2"))
      .Set("m_p_L", chain.observables.at("m_p_L"))
      .Set("samples", static_cast<double>(chain.updates));
  return Rows{{"table1", {row}}};
}

// How far the paper's and the flow's values are from Monte Carlo, the paper's
// to half a unit of its last digit.
void Compare(Rows* rows) {
  constexpr double kPaperRounding = 0.005;
  const std::vector<Row> all = (*rows)["table1"];
  for (const Row& value : all) {
    if (value.Text("source") == kMonteCarlo) continue;
    for (const Row& truth : all) {
      if (truth.Text("source") != kMonteCarlo ||
          truth.Number("L") != value.Number("L")) {
        continue;
      }
      const bool paper = value.Text("source") == kPaper;
      if (!paper && truth.Text("coupling") != kCorrected) continue;
      for (const char* name : {"chi_2", "m_p_L"}) {
        const std::string error = absl::StrCat(name, "_error");
        const double difference = value.Number(name) - truth.Number(name);
        const double combined = std::hypot(
            paper ? kPaperRounding : value.Number(error), truth.Number(error));
        (*rows)["agreement"].push_back(
            Row()
                .Set("L", value.Number("L"))
                .Set("source", value.Text("source"))
                .Set("lambda_of_Monte_Carlo", truth.Number("lambda"))
                .Set("coupling", truth.Text("coupling"))
                .Set("observable", name)
                .Set("difference", difference)
                .Set("errors", difference / combined));
      }
    }
  }
}

}  // namespace

Study Table1Study() {
  Study study;
  study.name = "table1";
  study.about = "couplings, chi_2, m_p L, ESS and acceptance of 2110.02673";
  study.lattices = {6, 12, 20, 32};
  const Table table = {
      "table1", "table 1 of 2110.02673 beside our flow and Monte Carlo",
      Join({{{"L", "extent of the lattice"},
             {"coupling", "corrected, or as printed in the paper"},
             {"lambda", "at m^2 = -4"},
             {"source", "2110.02673, flow (ours) or Monte Carlo"}},
            EstimateColumns("chi_2", "V <M^2>; of the flow, reweighted"),
            EstimateColumns("m_p_L", "L times the pole mass, likewise"),
            QualityColumns(),
            {{"samples", "draws, or updates of Monte Carlo"},
             {"minutes", "wall time of training"},
             {"digest", "of the flow"}}})};
  study.tables = {
      table,
      {"agreement",
       "distance of the paper's and the flow's values from Monte Carlo",
       {{"L", ""},
        {"source", "whose value"},
        {"lambda_of_Monte_Carlo", "compared with Monte Carlo at this coupling"},
        {"coupling", "corrected or printed"},
        {"observable", ""},
        {"difference", "value minus Monte Carlo"},
        {"errors",
         "in units of both errors; the paper states none, 0.005 is its "
         "rounding"}}}};
  study.pieces = [](const std::vector<int64_t>& lattices) {
    std::vector<Piece> pieces;
    for (const int64_t l : lattices) {
      const auto paper = PublishedTable1(l);
      if (paper.has_value()) {
        pieces.push_back({absl::StrCat("paper-l", l),
                          [=](const StudyRun&) -> absl::StatusOr<Rows> {
                            Row row = Start(l, kPrinted, paper->lambda, kPaper);
                            row.Set("chi_2", paper->chi_2)
                                .Set("m_p_L", paper->m_p_l)
                                .Set("ess", paper->ess)
                                .Set("acceptance", paper->acceptance);
                            return Rows{{"table1", {row}}};
                          }});
        if (paper->lambda != EnsembleLambda(l)) {
          pieces.push_back({absl::StrCat("monte-carlo-printed-l", l),
                            [=](const StudyRun& run) {
                              return MonteCarloRow(run, l, /*printed=*/true,
                                                   paper->lambda);
                            }});
        }
      }
      pieces.push_back(
          {absl::StrCat("monte-carlo-l", l), [=](const StudyRun& run) {
             return MonteCarloRow(run, l, /*printed=*/false, EnsembleLambda(l));
           }});
      pieces.push_back({absl::StrCat("flow-l", l),
                        [=](const StudyRun& run) { return FlowRow(run, l); }});
    }
    return pieces;
  };
  study.derive = Compare;
  return study;
}

}  // namespace latticed
