// What a version must show before it goes live, as a function of measured
// figures alone: no draws, no clock, no files.
//
// Log weights are log w = -S - log q on the gate's fixed streams, the same for
// every version, so that candidate and live version are compared on common
// random numbers. A flow's own draws cannot show a mode that it misses: log q
// of the stored Monte Carlo configurations does.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/stats/log_weights.h"
#include "latticed/v1/manifest.pb.h"
#include "latticed/v1/model.pb.h"

namespace latticed {

struct GateLimits {
  int64_t draws_min = 8192;
  double ess_of_live = 0.9;         // lower 99 % bound, as a share of live's
  double acceptance_of_live = 0.9;  // the same
  double weight_share_max = 0.01;   // of the largest single weight
  double sigmas = 4;                // from the reference, and of Z2 balance
  double step_doubling_rms = 0.05;  // |log w(N) - log w(2N)|
  double round_trip_rms = 0.1;      // |log q forward - log q backward|
  // A reference configuration may weigh this much more, in log w, than the
  // heaviest of the flow's own draws.
  double reference_excess = 10;
  double rate_of_live = 0.8;  // below it: a warning
};

struct GateEvidence {
  std::vector<double> log_w;  // in order of the stream
  // Of a part of these draws: log w(N) - log w(2N), and the log q of drawing
  // minus that of evaluating the drawn configuration.
  std::vector<double> step_doubling;
  std::vector<double> round_trip;
  // Reweighted; keys of core/stats/observables.h.
  std::map<std::string, Estimate> observables;
  Estimate sign_m;  // reweighted <sign M>
  // Log weights of the stored configurations; empty without a reference.
  std::vector<double> reference_log_w;
  double seconds = 0;
  double draws_per_second = 0;
};

// The live version's figures on the same streams.
struct GateBaseline {
  double ess = 0;
  double acceptance = 0;
  double draws_per_second = 0;
};

// `reference`: null if the model has none, which is a warning; `live`: empty if
// nothing is. Every check is in the report, passed or not.
v1::GateReport Judge(const GateEvidence& evidence, double ess_floor,
                     const v1::ReferenceManifest* reference,
                     const std::optional<GateBaseline>& live,
                     const GateLimits& limits);

// "ess 0.41 is below 0.89; ..." of the checks that failed.
std::string FailedChecks(const v1::GateReport& report);

}  // namespace latticed
