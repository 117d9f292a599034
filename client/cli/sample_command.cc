#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/run.h"
#include "core/wire/block.h"

namespace latticed {
namespace {

constexpr size_t kNonFiniteListed = 1000;

absl::StatusOr<v1::StreamSamplesRequest> MakeRequest(
    const CommandOptions& options) {
  v1::StreamSamplesRequest request;
  if (absl::Status s = FillStart(options, &request); !s.ok()) return s;
  request.set_first_index(options.first_index);
  request.set_count(options.count);
  return request;
}

absl::Status Append(const DrawBlock& block, const v1::Lattice& lattice,
                    ArrayOutput* output) {
  if (!output->is_open()) {
    const std::vector<int64_t> extents(lattice.extent().begin(),
                                       lattice.extent().end());
    if (absl::Status s = output->Open({{"phi", "<f4", extents},
                                       {"log_q", "<f8", {}},
                                       {"action", "<f8", {}}});
        !s.ok()) {
      return s;
    }
  }
  if (absl::Status s = output->Append(0, BytesOf(block.phi)); !s.ok()) {
    return s;
  }
  if (absl::Status s = output->Append(1, BytesOf(block.log_q)); !s.ok()) {
    return s;
  }
  return output->Append(2, BytesOf(block.action));
}

}  // namespace

int RunSample(const CommandOptions& options, const Interrupt& interrupt) {
  const auto request = MakeRequest(options);
  if (!request.ok()) {
    PrintError(request.status());
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
  }
  Progress progress(options.model, "draws", options.count,
                    Progress::ChooseStyle(options.quiet));
  const auto client = ConnectFor(options, interrupt, &progress);
  if (!client.ok()) {
    PrintError(client.status());
    return kExitUsage;
  }

  SampleReader draws = (*client)->StreamSamples(*request);
  std::optional<DrawSummary> summary;
  std::vector<uint64_t> non_finite;
  DrawBlock block;
  absl::Status ended;
  while (!interrupt.stop.load()) {
    const absl::StatusOr<bool> more = draws.Next(&block);
    if (!more.ok()) ended = more.status();
    if (!more.ok() || !*more) break;
    const v1::Lattice& lattice = draws.provenance().lattice();
    if (!summary.has_value()) {
      summary.emplace(lattice.extent(0), lattice.extent(1));
    }
    summary->Add(block);
    for (uint32_t offset : block.non_finite) {
      if (non_finite.size() < kNonFiniteListed) {
        non_finite.push_back(block.first_index + offset);
      }
    }
    if (output != nullptr) {
      if (absl::Status s = Append(block, lattice, output.get()); !s.ok()) {
        progress.Finish();
        PrintError(s);
        return kExitOutput;
      }
    }
    progress.Update(draws.received());
  }
  const double seconds = progress.seconds();
  progress.Finish();
  if (interrupt.stop.load() && draws.received() < options.count) {
    ended = absl::CancelledError(absl::StrCat("interrupted after ",
                                              draws.received(), " of ",
                                              options.count, " draws"));
  }

  RunReport report{.unit = "draws",
                   .asked = options.count,
                   .received = draws.received(),
                   .non_finite = draws.non_finite(),
                   .resumes = draws.resumes(),
                   .seconds = seconds,
                   .ended = ended};
  if (!draws.provenances().empty()) report.provenance = &draws.provenance();
  if (summary.has_value()) report.summary = summary->Result();
  report.json_extra.push_back(
      {"first_index", absl::StrCat(options.first_index)});
  report.json_extra.push_back(
      {"non_finite_index",
       absl::StrCat("[", absl::StrJoin(non_finite, ", "), "]")});
  return FinishRun(report, options, interrupt, output.get(), client->get());
}

}  // namespace latticed
