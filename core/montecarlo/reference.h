// A long cluster Monte Carlo run of phi^4: observables with errors, and
// independent configurations. What flows are held against.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/random/stream.h"
#include "core/stats/log_weights.h"
#include "core/theory/lattice.h"
#include "core/theory/phi4.h"

namespace latticed {

struct ReferenceOptions {
  // Measured updates, >= 1000; more are made if the configurations need them.
  int64_t updates = 1000000;
  int64_t thermalisation = 5000;  // updates before, >= 1000
  int64_t configurations = 0;     // to keep, >= 0
  // Called every few hundred updates; false stops the run early.
  std::function<bool(int64_t done, int64_t total)> progress;
};

struct ReferenceRun {
  bool complete = false;  // false if stopped early: the rest is then empty
  // Keys of core/stats/observables.h; jackknife over 200 stretches of the run.
  std::map<std::string, Estimate> observables;
  // chi_2, abs_M, phi2, action_per_site, in updates, 1/2 for independent ones;
  // from at most the first 2^20 updates.
  std::map<std::string, double> tau_int;
  int64_t updates = 0;
  int64_t thinning = 0;  // updates between two kept configurations
  double metropolis_width = 0;
  double metropolis_acceptance = 0;
  std::vector<float> phi;  // [configurations, L_0, L_1], in order of the run
  std::string method;      // one line for the manifest
};

// Deterministic in its arguments. A pilot run of 20000 updates finds tau_int;
// kept configurations are more than 4 tau_int of the slowest quantity apart,
// and spread over the whole run.
ReferenceRun RunReference(const Lattice& lattice,
                          const Phi4Couplings& couplings,
                          const ReferenceOptions& options,
                          const StreamId& stream);

}  // namespace latticed
