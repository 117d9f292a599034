// latticectl: see `latticectl --help`.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/messages.h"
#include "client/cli/options.h"
#include "latticed/build_id.h"

namespace latticed {
namespace {

Interrupt g_interrupt;  // for the signal handler, the one thing it can reach

void OnSignal(int /*signal*/) {
  if (g_interrupt.stop.exchange(true)) g_interrupt.discard.store(true);
}

// Only lock-free atomics may be touched in a handler.
static_assert(std::atomic<bool>::is_always_lock_free);

void InstallSignals() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // Full disks and closed pipes are errors of a write, not the end.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
}

using Run = int (*)(const CommandOptions&, const Interrupt&);
constexpr std::pair<const char*, Run> kCommands[] = {
    {"models", RunModels},   {"sample", RunSample}, {"chain", RunChain},
    {"measure", RunMeasure}, {"score", RunScore},   {"verify", RunVerify},
    {"health", RunHealth},   {"admin", RunAdmin}};

auto FindCommand(const std::string& name) {
  return std::find_if(std::begin(kCommands), std::end(kCommands),
                      [&](const auto& known) { return known.first == name; });
}

// Flags may come before the command: it is the first argument that is neither a
// flag nor the value of one.
std::vector<std::string> CommandFirst(std::vector<std::string> arguments) {
  auto command = arguments.begin();
  while (command != arguments.end() && absl::StartsWith(*command, "--")) {
    const bool alone = absl::StrContains(*command, '=') ||
                       *command == "--quiet" || *command == "--json" ||
                       *command == "--force" || *command == "--all" ||
                       *command == "--alive" || *command == "--help";
    ++command;
    if (!alone && command != arguments.end()) ++command;
  }
  if (command != arguments.end()) {
    std::rotate(arguments.begin(), command, command + 1);
  }
  return arguments;
}

int Main(const std::vector<std::string>& as_typed) {
  const std::vector<std::string> arguments = CommandFirst(as_typed);
  const std::string command = arguments.empty() ? "" : arguments[0];
  if (command == "--help" || command == "-h" || command == "help") {
    const std::string topic = arguments.size() > 1 ? arguments[1] : "";
    std::fputs(HelpText(topic).c_str(), stdout);
    return kExitOk;
  }
  if (command == "--version") {
    std::printf("latticectl %s\n", kBuildId);
    return kExitOk;
  }
  const auto* const found = FindCommand(command);
  if (found == std::end(kCommands)) {
    PrintError(absl::InvalidArgumentError(
        command.empty() ? std::string("a command is missing")
                        : absl::StrCat("unknown command '", command, "'")));
    std::fprintf(stderr, "\n%s", HelpText("").c_str());
    return kExitUsage;
  }
  CommandOptions options;
  options.command_line =
      absl::StrCat("latticectl ", absl::StrJoin(as_typed, " "));
  const absl::Status parsed =
      ParseCommand(command, {arguments.begin() + 1, arguments.end()}, &options);
  if (!parsed.ok()) {
    PrintError(parsed, absl::StrCat("latticectl ", command, " --help"));
    return kExitUsage;
  }
  if (options.help) {
    std::fputs(HelpText(command).c_str(), stdout);
    return kExitOk;
  }
  InstallSignals();
  return found->second(options, g_interrupt);
}

}  // namespace
}  // namespace latticed

int main(int argc, char** argv) {
  return latticed::Main({argv + 1, argv + argc});
}
