// latticed-train: trains flows and publishes them; `latticed-train reference`
// runs the Monte Carlo codes, `latticed-train study` makes the papers' tables
// and figures.

#include <atomic>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/kernels/parallel.h"
#include "trainer/reference_command.h"
#include "trainer/spec_file.h"
#include "trainer/study/study.h"
#include "trainer/train.h"

ABSL_FLAG(std::string, spec, "", "training spec, text-format TrainingSpec");
ABSL_FLAG(std::string, repository, "",
          "model repository to publish to; study: to take the phi4-l<L> and "
          "their references from, empty: they are made");
ABSL_FLAG(std::string, model, "", "name of the model, [a-z][a-z0-9-]{0,62}");
ABSL_FLAG(std::string, state_directory, "",
          "where the state to resume from is kept; default "
          "<repository>/.training");
ABSL_FLAG(bool, restart, false, "drop a saved state and start over");
ABSL_FLAG(double, minutes, 0,
          "save the state and stop after so many minutes; 0: no limit");
ABSL_FLAG(int, threads, 0, "compute threads; 0: one a core");
ABSL_FLAG(std::string, http_listen, "",
          "HOST:PORT to serve Prometheus metrics on; empty: none");
ABSL_FLAG(bool, insecure_allow_remote, false,
          "let --http_listen be an address that other machines reach");
ABSL_FLAG(bool, quiet, false, "no progress");
ABSL_FLAG(uint64_t, updates, 1000000,
          "reference, study: cluster updates after thermalisation (study "
          "classical: and a tenth as many HMC trajectories)");
ABSL_FLAG(uint64_t, configurations, 4096,
          "reference: configurations to keep, spread over the updates");
ABSL_FLAG(std::string, output, "",
          "study: folder for data, trainings and models");
ABSL_FLAG(double, budget, 3,
          "study: minutes for each training on an otherwise idle machine");
ABSL_FLAG(std::vector<std::string>, lattices, {},
          "study: extents L, e.g. 6,12; empty: the study's own");
ABSL_FLAG(int64_t, draws, 65536, "study: draws of an estimate");

namespace {

// 0 done, 1 bad input or failure, 130 interrupted.
constexpr int kFailed = 1;
constexpr int kInterrupted = 130;

std::atomic<bool> g_stop{false};

void HandleSignal(int number) {
  g_stop.store(true);
  // The next one ends the process at once: nothing half-written is visible.
  std::signal(number, SIG_DFL);
}

int Fail(const absl::Status& status) {
  absl::FPrintF(stderr, "latticed-train: %s\n", std::string(status.message()));
  return kFailed;
}

int Study(const std::vector<char*>& positional, const std::string& command) {
  if (positional.size() != 3) {
    return Fail(absl::InvalidArgumentError(
        "study: give the name of one study, e.g. `latticed-train study table1 "
        "--output DIR`"));
  }
  if (!absl::GetFlag(FLAGS_spec).empty() ||
      !absl::GetFlag(FLAGS_model).empty() || absl::GetFlag(FLAGS_restart) ||
      absl::GetFlag(FLAGS_minutes) != 0) {
    return Fail(absl::InvalidArgumentError(
        "study: --spec, --model, --restart and --minutes are of trainings; a "
        "study has --budget, and trains a flow again if its plan in "
        "OUTPUT/trainings and OUTPUT/models/NAME are removed"));
  }
  latticed::StudyOptions options;
  options.study = positional[2];
  options.output = absl::GetFlag(FLAGS_output);
  options.repository = absl::GetFlag(FLAGS_repository);
  options.budget_minutes = absl::GetFlag(FLAGS_budget);
  options.draws = absl::GetFlag(FLAGS_draws);
  options.updates = static_cast<int64_t>(absl::GetFlag(FLAGS_updates));
  options.command = command;
  for (const std::string& text : absl::GetFlag(FLAGS_lattices)) {
    int64_t l = 0;
    if (!absl::SimpleAtoi(text, &l)) {
      return Fail(absl::InvalidArgumentError(
          absl::StrCat("--lattices: '", text, "' is no extent; e.g. 6,12")));
    }
    options.lattices.push_back(l);
  }
  latticed::SetComputeThreads(absl::GetFlag(FLAGS_threads));
  latticed::Progress progress(absl::GetFlag(FLAGS_quiet));
  const absl::Status status = latticed::RunStudy(options, &progress, g_stop);
  if (status.ok()) return 0;
  Fail(status);
  return absl::IsCancelled(status) ? kInterrupted : kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv, argv + argc);
  absl::SetProgramUsageMessage(
      "trains a flow and publishes it:\n"
      "  latticed-train --spec FILE --repository DIR --model NAME\n"
      "runs Monte Carlo and writes the model's reference:\n"
      "  latticed-train reference --spec FILE --repository DIR --model NAME\n"
      "makes the data of a table or figure of the papers:\n"
      "  latticed-train study NAME --output DIR [--repository DIR]");
  const std::vector<char*> positional = absl::ParseCommandLine(argc, argv);
  std::signal(SIGINT, HandleSignal);
  std::signal(SIGTERM, HandleSignal);

  const std::string subcommand = positional.size() > 1 ? positional[1] : "";
  if (subcommand == "study") {
    return Study(positional, absl::StrJoin(words, " "));
  }
  if (positional.size() > 2 ||
      (!subcommand.empty() && subcommand != "reference")) {
    return Fail(absl::InvalidArgumentError(
        absl::StrCat("unknown command '", positional.back(),
                     "'; there are 'reference' and 'study', or none to "
                     "train")));
  }
  latticed::TrainOptions options;
  options.repository = absl::GetFlag(FLAGS_repository);
  options.model = absl::GetFlag(FLAGS_model);
  options.state_directory = absl::GetFlag(FLAGS_state_directory);
  options.restart = absl::GetFlag(FLAGS_restart);
  options.minutes_max = absl::GetFlag(FLAGS_minutes);
  options.command = absl::StrJoin(words, " ");
  if (const absl::Status valid =
          latticed::ValidateTrainOptions(options, absl::GetFlag(FLAGS_spec));
      !valid.ok()) {
    return Fail(valid);
  }
  const auto spec = latticed::ReadTrainingSpec(absl::GetFlag(FLAGS_spec));
  if (!spec.ok()) return Fail(spec.status());
  latticed::SetComputeThreads(absl::GetFlag(FLAGS_threads));
  latticed::Progress progress(absl::GetFlag(FLAGS_quiet));

  if (subcommand == "reference") {
    const absl::Status status = latticed::RunReferenceCommand(
        options, *spec, absl::GetFlag(FLAGS_updates),
        absl::GetFlag(FLAGS_configurations), &progress, g_stop);
    if (status.ok()) return 0;
    return absl::IsCancelled(status) ? (Fail(status), kInterrupted)
                                     : Fail(status);
  }
  auto metrics = latticed::TrainerMetrics::Create(
      absl::GetFlag(FLAGS_http_listen), options.model,
      absl::GetFlag(FLAGS_insecure_allow_remote));
  if (!metrics.ok()) return Fail(metrics.status());
  if (!(*metrics)->address().empty()) {
    progress.Say(
        absl::StrCat("metrics on http://", (*metrics)->address(), "/metrics"));
  }
  const auto outcome =
      latticed::Train(options, *spec, &progress, metrics->get(), g_stop);
  if (!outcome.ok()) return Fail(outcome.status());
  if (*outcome == latticed::TrainOutcome::kStopped) {
    progress.Say("stopped, state saved; the same command continues");
    return g_stop.load() ? kInterrupted : 0;
  }
  return 0;
}
