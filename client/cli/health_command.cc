#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/messages.h"
#include "client/cli/run.h"
#include "client/stopwatch.h"

namespace latticed {

int RunHealth(const CommandOptions& options, const Interrupt& interrupt) {
  const auto client = ConnectFor(options, interrupt, nullptr);
  if (!client.ok()) {
    PrintError(client.status());
    return kExitUsage;
  }
  const std::string service = options.alive           ? ""
                              : options.model.empty() ? "readiness"
                                                      : options.model;
  const Stopwatch since_start;
  absl::StatusOr<bool> serves = (*client)->Serves(service);
  // The client's own patience ends with an answer, which not serving is, and
  // sooner where nobody has ever answered.
  while ((serves.ok() ? !*serves : absl::IsUnavailable(serves.status())) &&
         since_start.Elapsed() < absl::Seconds(options.retry_for) &&
         WaitUnless(absl::Milliseconds(200), &interrupt.stop, nullptr)) {
    serves = (*client)->Serves(service);
  }
  if (!serves.ok()) {
    PrintError(serves.status(), HintFor(serves.status(), client->get()));
    return ExitCodeOf(serves.status());
  }
  if (!options.quiet) {
    std::printf("%s %s\n", options.server.c_str(),
                *serves ? "SERVING" : "NOT_SERVING");
  }
  return *serves ? kExitOk : kExitUnavailable;
}

}  // namespace latticed
