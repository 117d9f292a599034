#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/run.h"
#include "core/stats/jackknife.h"
#include "core/wire/block.h"
#include "core/wire/npy_reader.h"

namespace latticed {
namespace {

// phi as float32 [n, L_0, L_1]; anything else says what it is.
absl::StatusOr<const NpyReader::Array*> FindPhi(const NpyReader& input,
                                                const std::string& path) {
  const NpyReader::Array* phi = input.Find("phi");
  if (phi == nullptr) {
    std::vector<std::string> names;
    for (const auto& [name, array] : input.arrays()) names.push_back(name);
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has no array phi, but ",
                     names.empty() ? "none" : absl::StrJoin(names, ", ")));
  }
  if (phi->shape.size() != 3 || phi->descr != "<f4" || phi->rows() < 1 ||
      phi->row_bytes < 1 || phi->row_bytes > kBlockBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": phi is ", phi->descr, " [", absl::StrJoin(phi->shape, ", "),
        "], not <f4 [n, L_0, L_1]; save it with phi.astype('<f4')"));
  }
  return phi;
}

// ESS of the flow from configurations of the target instead of the flow's own:
//   Z / E_p[w] = 1 / (E_p[w] E_p[1/w]).
// A mode that the flow misses has large weights, which its own draws never
// show.
Estimate EssFromTarget(const std::vector<double>& log_w) {
  struct Sums {
    double w = 0, inverse = 0, n = 0;
  };
  const auto extremes = std::minmax_element(log_w.begin(), log_w.end());
  const double low = *extremes.first;
  const double high = *extremes.second;
  const int64_t n = static_cast<int64_t>(log_w.size());
  std::vector<Sums> blocks(static_cast<size_t>(JackknifeBlocks(n)));
  Sums total;
  for (int64_t i = 0; i < n; ++i) {
    const double value = log_w[static_cast<size_t>(i)];
    for (Sums* sums :
         {&total, &blocks[static_cast<size_t>(JackknifeBlock(i, n))]}) {
      sums->w += std::exp(value - high);
      sums->inverse += std::exp(low - value);
      sums->n += 1;
    }
  }
  const auto ess = [&](const Sums& less) {
    const double count = total.n - less.n;
    return std::exp(low - high) * count * count /
           ((total.w - less.w) * (total.inverse - less.inverse));
  };
  std::vector<double> thetas;
  thetas.reserve(blocks.size());
  for (const Sums& block : blocks) thetas.push_back(ess(block));
  return {ess(Sums()), JackknifeError(thetas)};
}

Summary SummaryOf(const std::vector<double>& log_w, int64_t sites) {
  Summary summary{.measured = log_w.size(), .total = log_w.size()};
  if (log_w.empty()) return summary;
  Estimate sigma2 = LogWeightVariance(log_w);
  sigma2.value /= static_cast<double>(sites);
  sigma2.error /= static_cast<double>(sites);
  double mean = 0;
  for (const double value : log_w) {
    mean += value / static_cast<double>(log_w.size());
  }
  summary.rows = {{"ESS_if_drawn_from_flow", Ess(log_w)},
                  {"ESS_if_drawn_from_target", EssFromTarget(log_w)},
                  {"sigma2_per_site", sigma2},
                  {"mean_log_w",
                   {mean, std::sqrt(LogWeightVariance(log_w).value /
                                    static_cast<double>(log_w.size()))}}};
  return summary;
}

}  // namespace

int RunScore(const CommandOptions& options, const Interrupt& interrupt) {
  const auto selector = SelectorFromOptions(options);
  if (!selector.ok()) {
    PrintError(selector.status());
    return kExitUsage;
  }
  const auto input = NpyReader::Open(options.input);
  if (!input.ok()) {
    PrintError(input.status());
    return kExitUsage;
  }
  const auto phi = FindPhi(**input, options.input);
  if (!phi.ok()) {
    PrintError(phi.status());
    return kExitUsage;
  }
  std::unique_ptr<ArrayOutput> output;
  if (!options.output.empty()) {
    auto prepared = ArrayOutput::Prepare(options.output, options.force);
    if (!prepared.ok()) {
      PrintError(prepared.status());
      return kExitOutput;
    }
    output = std::move(*prepared);
    if (absl::Status s = output->Open({{"log_w", "<f8", {}},
                                       {"log_q", "<f8", {}},
                                       {"action", "<f8", {}}});
        !s.ok()) {
      PrintError(s);
      return kExitOutput;
    }
  }
  const int64_t rows = (*phi)->rows();
  Progress progress(options.model, "configurations",
                    static_cast<uint64_t>(rows),
                    Progress::ChooseStyle(options.quiet));
  const auto client = ConnectFor(options, interrupt, &progress);
  if (!client.ok()) {
    PrintError(client.status());
    return kExitUsage;
  }
  // Half of what a message may have: answers come, and progress shows, sooner.
  const int64_t chunk =
      std::max<int64_t>(1, kBlockBytesDefault / (*phi)->row_bytes);
  Evaluator evaluator = (*client)->Evaluate(*selector);
  std::vector<double> all_log_w;
  int64_t done = 0;
  uint64_t non_finite = 0;
  absl::Status ended;
  while (done < rows && !interrupt.stop.load()) {
    const int64_t count = std::min(chunk, rows - done);
    const auto bytes = (*input)->Rows(**phi, done, count);
    if (!bytes.ok()) {
      ended = bytes.status();
      break;
    }
    std::vector<float> values(bytes->size() / 4);
    FromBytes(*bytes, absl::MakeSpan(values));
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isfinite(values[i])) continue;
      ended = absl::InvalidArgumentError(
          absl::StrCat(options.input, ": phi of configuration ",
                       done + static_cast<int64_t>(i) * 4 / (*phi)->row_bytes,
                       " is not finite"));
      break;
    }
    if (!ended.ok()) break;
    std::vector<double> log_q, action, log_w;
    ended = evaluator.Evaluate(values, &log_q, &action);
    if (!ended.ok()) break;
    // The first answer names the lattice; a file of another one that happens
    // to have as many sites is not what it says.
    const v1::Lattice& lattice = evaluator.provenance().lattice();
    if (lattice.extent_size() != 2 || (*phi)->shape[1] != lattice.extent(0) ||
        (*phi)->shape[2] != lattice.extent(1)) {
      ended = absl::InvalidArgumentError(
          absl::StrCat(options.input, ": phi is on ", (*phi)->shape[1], "x",
                       (*phi)->shape[2], ", ", options.model, " on ",
                       FormatLattice(lattice)));
      break;
    }
    for (size_t i = 0; i < log_q.size(); ++i) {
      const bool finite = std::isfinite(log_q[i]) && std::isfinite(action[i]);
      log_w.push_back(finite ? -action[i] - log_q[i]
                             : std::numeric_limits<double>::quiet_NaN());
      non_finite += finite ? 0 : 1;
      if (finite) all_log_w.push_back(log_w.back());
    }
    if (output != nullptr) {
      size_t column = 0;
      for (const auto* part : {&log_w, &log_q, &action}) {
        if (absl::Status s = output->Append(column++, BytesOf(*part));
            !s.ok()) {
          progress.Finish();
          PrintError(s);
          return kExitOutput;
        }
      }
    }
    done += count;
    progress.Update(static_cast<uint64_t>(done));
  }
  const double seconds = progress.seconds();
  progress.Finish();
  if (interrupt.stop.load() && done < rows) {
    ended = absl::CancelledError(absl::StrCat("interrupted after ", done,
                                              " of ", rows, " configurations"));
  }
  RunReport report{.unit = "configurations",
                   .asked = static_cast<uint64_t>(rows),
                   .received = static_cast<uint64_t>(done),
                   .non_finite = non_finite,
                   .resumes = evaluator.resumes(),
                   .seconds = seconds,
                   .ended = ended};
  if (done > 0) report.provenance = &evaluator.provenance();
  report.summary = SummaryOf(all_log_w, (*phi)->row_bytes / 4);
  JsonWriter name;
  name.String(options.input);
  report.json_extra.push_back({"input", name.text()});
  return FinishRun(report, options, interrupt, output.get(), client->get());
}

}  // namespace latticed
