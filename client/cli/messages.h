// Exit codes, and errors as a person at a terminal reads them.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "client/client.h"

namespace latticed {

enum ExitCode : int {
  kExitOk = 0,
  kExitUsage = 1,
  kExitUnavailable = 2,
  kExitOutput = 3,
  kExitServer = 4,
  kExitInterrupted = 130,
};

// Of a failed call.
ExitCode ExitCodeOf(const absl::Status& status);

// "latticectl: <message>" and, where there is something to try, a second line.
void PrintError(const absl::Status& status, const std::string& hint = "");

// What to try after a failed call; asks the server which models it has when
// one is unknown. May be empty.
std::string HintFor(const absl::Status& status, Client* client);

}  // namespace latticed
