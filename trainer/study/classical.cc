// classical: autocorrelation and cost of an independent configuration for the
// cluster algorithm, HMC and the flow.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/montecarlo/cluster.h"
#include "core/montecarlo/hmc.h"
#include "core/stats/autocorrelation.h"
#include "core/stats/log_weights.h"
#include "core/stats/metropolis.h"
#include "trainer/core_seconds.h"
#include "trainer/study/sample.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

double Chi2(const std::vector<double>& phi) {
  double sum = 0;
  for (const double value : phi) sum += value;
  return sum * sum / static_cast<double>(phi.size());
}

Row Result(int64_t l, const char* sampler, int64_t updates, double acceptance,
           const Autocorrelation& chi_2, double seconds) {
  Row row;
  row.Set("L", static_cast<double>(l))
      .Set("sampler", sampler)
      .Set("updates", static_cast<double>(updates))
      .Set("acceptance", acceptance)
      .Set("chi_2", Estimate{chi_2.mean, chi_2.error})
      .Set("tau_int", Estimate{chi_2.tau_int, chi_2.tau_int_error})
      .Set("core_seconds_per_update", seconds)
      .Set("core_seconds_per_independent",
           Estimate{2 * chi_2.tau_int * seconds,
                    2 * chi_2.tau_int_error * seconds});
  return row;
}

// A chain in equilibrium, its random numbers and a cluster update's width.
struct Chain {
  Chain(int64_t l, const Phi4& action, const char* name)
      : phi(l * l, 0.1),
        random(NamedStream(absl::StrCat("study/classical/", name, "/", l))),
        cluster(action) {
    constexpr int64_t kThermalisation = 5000;
    width = cluster.Thermalise(kThermalisation, absl::MakeSpan(phi), random);
  }
  std::vector<double> phi;
  RandomSequence random;
  ClusterMonteCarlo cluster;
  double width = 1;
};

// Runs `updates` updates measured and a tenth as many timed, without
// measurements between them. `update` returns what counts as accepted.
template <typename Update>
absl::StatusOr<Rows> RunChain(const StudyRun& run, int64_t l,
                              const char* sampler, int64_t updates,
                              Chain* chain, const Update& update) {
  double accepted = 0;
  std::vector<double> chi_2;
  chi_2.reserve(updates);
  for (int64_t i = 0; i < updates; ++i) {
    if (i % 256 == 0 && run.stop->load()) {
      return absl::CancelledError("stopped");
    }
    accepted += update();
    chi_2.push_back(Chi2(chain->phi));
  }
  const int64_t timed = std::max<int64_t>(updates / 10, 100);
  const double begin = CoreSeconds();
  for (int64_t i = 0; i < timed; ++i) update();
  const double seconds = (CoreSeconds() - begin) / static_cast<double>(timed);
  return Rows{
      {"samplers",
       {Result(l, sampler, updates, accepted / static_cast<double>(updates),
               GammaMethod(chi_2), seconds)}}};
}

absl::StatusOr<Rows> RunCluster(const StudyRun& run, int64_t l) {
  const Phi4 action({l, l}, {.mass_squared = -4, .lambda = EnsembleLambda(l)});
  Chain chain(l, action, "cluster");
  return RunChain(run, l, "cluster", run.options.updates, &chain, [&chain] {
    return chain.cluster
        .Update(chain.width, absl::MakeSpan(chain.phi), chain.random)
        .acceptance;
  });
}

absl::StatusOr<Rows> RunHmc(const StudyRun& run, int64_t l) {
  const Phi4 action({l, l}, {.mass_squared = -4, .lambda = EnsembleLambda(l)});
  Chain chain(l, action, "hmc");
  // Half a correlation length, at least 1.5, in steps of an eighth: acceptance
  // about 0.9 and more. Not tuned further for each lattice.
  HmcOptions options;
  options.length = std::max(1.5, static_cast<double>(l) / 8);
  options.steps = static_cast<int64_t>(std::ceil(8 * options.length));
  Hmc hmc(action, options);
  const int64_t trajectories =
      std::max<int64_t>(run.options.updates / 10, 1000);
  auto rows = RunChain(run, l, "hmc", trajectories, &chain, [&] {
    return hmc.Update(absl::MakeSpan(chain.phi), chain.random).accepted ? 1.0
                                                                        : 0.0;
  });
  if (!rows.ok()) return rows;
  (*rows)["samplers"]
      .front()
      .Set("length", options.length)
      .Set("steps", static_cast<double>(options.steps));
  return rows;
}

absl::StatusOr<Rows> RunFlow(const StudyRun& run, int64_t l) {
  const auto flow = FlowOf(run, FlowKind::kGated, l);
  if (!flow.ok()) return flow.status();
  const std::string name = absl::StrCat("study/classical/flow/", l);
  const auto sample =
      DrawSample(flow->checkpoint, run.options.draws, name, *run.stop);
  if (!sample.ok()) return sample.status();
  const int64_t n = run.options.draws;
  const double seconds = sample->core_seconds / static_cast<double>(n);
  std::vector<double> log_u(n);
  const StreamId stream = NamedStream(name);
  for (int64_t i = 0; i < n; ++i) {
    log_u[i] = std::log(Uniform(stream, i, Purpose::kAccept));
  }
  const Walk walk = AcceptReject(-INFINITY, sample->log_w, log_u);
  std::vector<double> chi_2;
  const double sites = static_cast<double>(l * l);
  for (const int64_t i : walk.index) {
    if (i < 0) continue;  // nothing accepted yet
    const double m = sample->measurements[i].m;
    chi_2.push_back(sites * m * m);
  }
  Rows rows;
  rows["samplers"].push_back(
      Result(l, "flow chain", n,
             static_cast<double>(walk.accepted) / static_cast<double>(n),
             GammaMethod(chi_2), seconds));
  // Reweighted: n ESS independent configurations from n draws.
  const Estimate ess = Ess(sample->log_w);
  const auto reweighted =
      EstimateIndependent(sample->measurements, sample->log_w, l, l);
  rows["samplers"].push_back(
      Row()
          .Set("L", static_cast<double>(l))
          .Set("sampler", "flow reweighted")
          .Set("updates", static_cast<double>(n))
          .Set("chi_2", reweighted.at("chi_2"))
          .Set("core_seconds_per_update", seconds)
          .Set("core_seconds_per_independent",
               Estimate{seconds / ess.value,
                        seconds * ess.error / (ess.value * ess.value)}));
  return rows;
}

void Verdicts(Rows* rows) {
  constexpr char kCost[] = "core_seconds_per_independent";
  constexpr char kError[] = "core_seconds_per_independent_error";
  const std::vector<Row> all = (*rows)["samplers"];
  for (const Row& flow : all) {
    const std::string sampler = flow.Text("sampler");
    absl::string_view of_flow = sampler;
    if (!absl::ConsumePrefix(&of_flow, "flow ")) continue;
    for (const Row& other : all) {
      const std::string name = other.Text("sampler");
      const bool monte_carlo = name == "cluster" || name == "hmc";
      if (other.Number("L") != flow.Number("L") || !monte_carlo) continue;
      const double ratio = flow.Number(kCost) / other.Number(kCost);
      const double error =
          ratio * std::hypot(flow.Number(kError) / flow.Number(kCost),
                             other.Number(kError) / other.Number(kCost));
      (*rows)["verdict"].push_back(
          Row()
              .Set("L", flow.Number("L"))
              .Set("flow", of_flow)
              .Set("against", name)
              .Set("cost_ratio", Estimate{ratio, error})
              .Set("cheaper", ratio < 1 ? "flow" : name));
    }
  }
}

}  // namespace

Study ClassicalStudy() {
  Study study;
  study.name = "classical";
  study.about = "tau_int of chi_2 and cost of an independent configuration";
  study.lattices = {6, 8, 12, 20, 32};
  const Table samplers = {
      "samplers", "cluster updates, HMC trajectories and flow draws",
      Join({{{"L", "extent of the lattice"},
             {"sampler",
              "cluster, hmc, flow chain (independence Metropolis) or flow "
              "reweighted"},
             {"updates", "updates, trajectories or draws"},
             {"length", "of HMC's trajectories"},
             {"steps", "of leapfrog in a trajectory"},
             {"acceptance", "of sweeps, trajectories or proposals"}},
            EstimateColumns("chi_2", "V <M^2>"),
            EstimateColumns("tau_int",
                            "of chi_2 in updates, 1/2 for independent ones"),
            {{"core_seconds_per_update", "processor time"}},
            EstimateColumns("core_seconds_per_independent",
                            "2 tau_int updates, or 1 / ESS draws")})};
  study.tables = {
      samplers,
      {"verdict", "the flow against Monte Carlo; its training is not counted",
       Join({{{"L", ""},
              {"flow", "its draws reweighted, or its chain"},
              {"against", "sampler"}},
             EstimateColumns("cost_ratio",
                             "cost of an independent "
                             "configuration, flow over the other"),
             {{"cheaper", "whose is cheaper"}}})}};
  study.pieces = [](const std::vector<int64_t>& lattices) {
    std::vector<Piece> pieces;
    for (const int64_t l : lattices) {
      pieces.push_back({absl::StrCat("cluster-l", l), [=](const StudyRun& run) {
                          return RunCluster(run, l);
                        }});
      pieces.push_back({absl::StrCat("hmc-l", l),
                        [=](const StudyRun& run) { return RunHmc(run, l); }});
      pieces.push_back({absl::StrCat("flow-l", l),
                        [=](const StudyRun& run) { return RunFlow(run, l); }});
    }
    return pieces;
  };
  study.derive = Verdicts;
  return study;
}

}  // namespace latticed
