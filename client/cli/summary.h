// What a run of draws or of a chain amounts to, in bounded memory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/block.h"
#include "client/cli/json.h"
#include "core/stats/log_weights.h"
#include "core/stats/observables.h"

namespace latticed {

// Names and values in the order they are shown.
struct Summary {
  std::vector<std::pair<std::string, Estimate>> rows;
  // How many draws or kept configurations the rows with errors rest on, and
  // out of how many.
  uint64_t measured = 0;
  uint64_t total = 0;
};

// Independent draws: importance weights and reweighted observables. The
// measurements of the first draws are kept up to `bytes_max`; what comes after
// them only counts. Needs phi, log q and action. Thread-compatible.
class DrawSummary {
 public:
  DrawSummary(int64_t l0, int64_t l1, int64_t bytes_max = int64_t{256} << 20);
  void Add(const DrawBlock& block);
  Summary Result() const;

 private:
  const int64_t l0_;
  const int64_t l1_;
  const uint64_t measured_max_;
  uint64_t total_ = 0;
  std::vector<Measurement> measurements_;
  std::vector<double> log_w_;
};

// A chain: observables of the kept configurations by the Gamma method,
// acceptance, tau_int of chi_2 in units of kept configurations.
class ChainSummaryBuilder {
 public:
  ChainSummaryBuilder(int64_t l0, int64_t l1,
                      int64_t bytes_max = int64_t{256} << 20);
  void Add(const StepBlock& block);
  Summary Result() const;

 private:
  const int64_t l0_;
  const int64_t l1_;
  const uint64_t measured_max_;
  uint64_t total_ = 0;
  uint64_t steps_ = 0;
  uint64_t accepted_ = 0;
  std::vector<double> accept_;
  std::vector<Measurement> measurements_;
};

// A table with a column each for name, value and error.
std::string FormatSummary(const Summary& summary);
// {"ESS": {"value": .., "error": ..}, ...}
void WriteSummary(const Summary& summary, JsonWriter* json);

}  // namespace latticed
