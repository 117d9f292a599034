// The commands of latticectl: each returns the exit code.
#pragma once

#include <atomic>

#include "client/cli/options.h"

namespace latticed {

// Set by signals. `stop` ends the drawing and keeps what is complete, `discard`
// keeps nothing.
struct Interrupt {
  std::atomic<bool> stop = false;
  std::atomic<bool> discard = false;
};

int RunHealth(const CommandOptions& options, const Interrupt& interrupt);
int RunModels(const CommandOptions& options, const Interrupt& interrupt);
int RunSample(const CommandOptions& options, const Interrupt& interrupt);
int RunChain(const CommandOptions& options, const Interrupt& interrupt);
int RunMeasure(const CommandOptions& options, const Interrupt& interrupt);
int RunScore(const CommandOptions& options, const Interrupt& interrupt);
int RunVerify(const CommandOptions& options, const Interrupt& interrupt);
int RunAdmin(const CommandOptions& options, const Interrupt& interrupt);

}  // namespace latticed
