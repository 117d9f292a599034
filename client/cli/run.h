// What sample and chain have in common: a client that reports its retries, an
// output that keeps complete blocks, and a report at the end.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/messages.h"
#include "client/cli/options.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/cli/summary.h"
#include "client/client.h"

namespace latticed {

// `progress` may be null; it must outlive the client.
absl::StatusOr<std::unique_ptr<Client>> ConnectFor(
    const CommandOptions& options, const Interrupt& interrupt,
    Progress* progress);

// Everything the report needs about one run.
struct RunReport {
  const char* unit = "draws";  // or "steps"
  uint64_t asked = 0;
  uint64_t received = 0;
  uint64_t non_finite = 0;
  int resumes = 0;
  double seconds = 0;
  const v1::Provenance* provenance = nullptr;
  Summary summary;
  absl::Status ended;  // how the stream ended
  // Further figures, as finished JSON values and as lines of the table.
  std::vector<std::pair<std::string, std::string>> json_extra;
  std::vector<std::pair<std::string, std::string>> lines;
};

// The report as one JSON object; `output` adds the file's arrays.
std::string ReportJson(const RunReport& report, const CommandOptions& options,
                       const ArrayOutput* output);

// Finishes `output` (may be null) with its provenance beside it, prints the
// report and returns the exit code. Nothing is kept if nothing was received.
int FinishRun(const RunReport& report, const CommandOptions& options,
              const Interrupt& interrupt, ArrayOutput* output, Client* client);

}  // namespace latticed
