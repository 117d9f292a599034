#include "core/montecarlo/reference.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/montecarlo/cluster.h"
#include "core/stats/autocorrelation.h"
#include "core/stats/observable_sums.h"
#include "core/stats/observables.h"

namespace latticed {
namespace {

constexpr int64_t kPilot = 20000;
constexpr int64_t kStretches = 200;
constexpr int64_t kSeriesMax = int64_t{1} << 20;
constexpr int64_t kProgressEvery = 512;

// Series of the primary quantities whose autocorrelation is reported.
struct Series {
  std::map<std::string, std::vector<double>> values;

  void Add(const Measurement& x) {
    if (static_cast<int64_t>(values["chi_2"].size()) == kSeriesMax) return;
    values["chi_2"].push_back(x.m * x.m);
    values["abs_M"].push_back(std::abs(x.m));
    values["phi2"].push_back(x.phi2);
    values["action_per_site"].push_back(x.action);
  }
};

class Chain {
 public:
  Chain(const Lattice& lattice, const Phi4Couplings& couplings,
        const StreamId& stream)
      : action_(lattice, couplings),
        cluster_(action_),
        random_(stream),
        phi_(lattice.Sites()),
        rounded_(lattice.Sites()) {
    random_.Normals(absl::MakeSpan(phi_));
    for (double& value : phi_) value *= 0.5;
  }

  void Thermalise(int64_t updates) {
    width_ = cluster_.Thermalise(updates / 2, absl::MakeSpan(phi_), random_);
    for (int64_t i = updates / 2; i < updates; ++i) Update();
  }

  // Returns the acceptance of the Metropolis sweep.
  double Update() {
    return cluster_.Update(width_, absl::MakeSpan(phi_), random_).acceptance;
  }

  Measurement MeasureNow() {
    for (size_t x = 0; x < phi_.size(); ++x) {
      rounded_[x] = static_cast<float>(phi_[x]);
    }
    const Lattice& lattice = action_.lattice();
    return Measure(rounded_, lattice.l0, lattice.l1,
                   action_.Evaluate(absl::MakeConstSpan(phi_)));
  }

  double width() const { return width_; }
  // As of the last MeasureNow.
  const std::vector<float>& rounded() const { return rounded_; }

 private:
  const Phi4 action_;
  ClusterMonteCarlo cluster_;
  RandomSequence random_;
  double width_ = 1;
  std::vector<double> phi_;
  std::vector<float> rounded_;
};

// Updates that take every measured quantity more than four autocorrelation
// times on, allowing for the error of these.
int64_t IndependentAfter(const Series& series) {
  double tau_max = 0.5;
  for (const auto& [name, values] : series.values) {
    const Autocorrelation a = GammaMethod(values);
    tau_max = std::max(tau_max, a.tau_int + 2 * a.tau_int_error);
  }
  return static_cast<int64_t>(4 * tau_max) + 1;
}

}  // namespace

ReferenceRun RunReference(const Lattice& lattice,
                          const Phi4Couplings& couplings,
                          const ReferenceOptions& options,
                          const StreamId& stream) {
  ReferenceRun run;
  Chain chain(lattice, couplings, stream);
  chain.Thermalise(options.thermalisation);
  Series pilot;
  for (int64_t i = 0; i < kPilot; ++i) {
    chain.Update();
    pilot.Add(chain.MeasureNow());
  }
  run.thinning = IndependentAfter(pilot);
  if (options.configurations > 0) {
    run.thinning =
        std::max(run.thinning, options.updates / options.configurations);
  }
  run.updates =
      std::max(options.updates, run.thinning * options.configurations);
  run.metropolis_width = chain.width();

  std::vector<ObservableSums> stretches(kStretches,
                                        ObservableSums(lattice.l0, lattice.l1));
  Series series;
  double acceptance = 0;
  int64_t kept = 0;
  for (int64_t i = 0; i < run.updates; ++i) {
    if (i % kProgressEvery == 0 && options.progress &&
        !options.progress(i, run.updates)) {
      return {};
    }
    acceptance += chain.Update();
    const Measurement x = chain.MeasureNow();
    stretches[i * kStretches / run.updates].Add(x);
    series.Add(x);
    if (kept < options.configurations && (i + 1) % run.thinning == 0) {
      run.phi.insert(run.phi.end(), chain.rounded().begin(),
                     chain.rounded().end());
      ++kept;
    }
  }
  run.observables = EstimateBlocks(stretches);
  for (const auto& [name, values] : series.values) {
    run.tau_int[name] = GammaMethod(values).tau_int;
  }
  run.metropolis_acceptance = acceptance / static_cast<double>(run.updates);
  run.method = absl::StrCat(
      "one Metropolis sweep of width ", run.metropolis_width,
      " and one Swendsen-Wang update of the signs an update; ",
      options.thermalisation + kPilot,
      " updates of thermalisation; jackknife over ", kStretches, " stretches");
  run.complete = true;
  if (options.progress) options.progress(run.updates, run.updates);
  return run;
}

}  // namespace latticed
