// latticed-train: trains flows and publishes them; `latticed-train reference`
// runs the Monte Carlo codes, `latticed-train study` makes the papers' tables
// and figures.

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/kernels/parallel.h"
#include "latticed/build_id.h"
#include "trainer/process_group.h"
#include "trainer/process_place.h"
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
ABSL_FLAG(int, threads, 0,
          "compute threads; 0: one a core, of several processes one each");
ABSL_FLAG(std::string, launcher, "auto",
          "what started the processes that train together: torchrun, slurm "
          "(srun), none: this one trains alone, auto: as the environment says");
ABSL_FLAG(int, rendezvous_port, 0,
          "of several processes: port of process 0 where they meet; 0: "
          "MASTER_PORT, or of the Slurm job");
ABSL_FLAG(double, rendezvous_seconds, 60,
          "of several processes: how long to wait until all have come");
ABSL_FLAG(double, exchange_seconds, 120,
          "of several processes: how long to wait for another one's part of a "
          "step");
ABSL_FLAG(std::string, http_listen, "",
          "HOST:PORT to serve Prometheus metrics on; empty: none");
ABSL_FLAG(bool, insecure_allow_remote, false,
          "let --http_listen be an address that other machines reach");
ABSL_FLAG(bool, quiet, false, "no progress");
ABSL_FLAG(uint64_t, updates, latticed::ReferenceCommand().updates,
          "reference, study: cluster updates after thermalisation (study "
          "classical: and a tenth as many HMC trajectories)");
ABSL_FLAG(uint64_t, configurations, latticed::ReferenceCommand().configurations,
          "reference: configurations to keep, spread over the updates");
ABSL_FLAG(bool, if_missing, false,
          "reference: leave one that is there as it is");
ABSL_FLAG(std::string, output, "",
          "study: folder for data, trainings and models");
ABSL_FLAG(double, budget, 3,
          "study: minutes for each training on an otherwise idle machine");
ABSL_FLAG(std::vector<std::string>, lattices, {},
          "study: extents L, e.g. 6,12; empty: the study's own");
ABSL_FLAG(int64_t, draws, 65536, "study: draws of an estimate");

namespace {

// Of the process. A supervisor need not try again after bad input, with which
// Abseil ends as well when it cannot read a flag. What is not there or cannot
// be written may be a mount that comes late or a disk that is full: it fails.
constexpr int kBadInput = 1;
constexpr int kFailed = 2;
constexpr int kInterrupted = 130;

std::atomic<bool> g_stop{false};

// The second one ends the process at once: nothing half-written is visible.
// Not by the default action, which the first process of a container has not.
void HandleSignal(int number) {
  if (g_stop.exchange(true)) _exit(128 + number);
}

int Fail(const absl::Status& status, const std::string& who = "") {
  absl::FPrintF(stderr, "latticed-train%s: %s\n", who,
                std::string(status.message()));
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:  // a state of another training
    case absl::StatusCode::kDataLoss:            // a state that is damaged
      return kBadInput;
    default:
      return kFailed;
  }
}

// The only look at the environment.
absl::StatusOr<latticed::ProcessPlace> Place() {
  std::map<std::string, std::string> environment;
  for (const std::string& name : latticed::PlaceVariables()) {
    const char* value = std::getenv(name.c_str());
    if (value != nullptr) environment[name] = value;
  }
  return latticed::PlaceOf(environment, absl::GetFlag(FLAGS_launcher),
                           absl::GetFlag(FLAGS_rendezvous_port));
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
  const int code = Fail(status);
  return absl::IsCancelled(status) ? kInterrupted : code;
}

int TrainFlow(const latticed::TrainOptions& options,
              const latticed::v1::TrainingSpec& spec,
              const latticed::ProcessPlace& place,
              latticed::Progress* progress) {
  const std::string who =
      place.size > 1 ? absl::StrCat(" (process ", place.rank, ")") : "";
  auto metrics = latticed::TrainerMetrics::Create(
      place.rank == 0 ? absl::GetFlag(FLAGS_http_listen) : "", options.model,
      absl::GetFlag(FLAGS_insecure_allow_remote));
  if (!metrics.ok()) return Fail(metrics.status(), who);
  if (!(*metrics)->address().empty()) {
    progress->Say(
        absl::StrCat("metrics on http://", (*metrics)->address(), "/metrics"));
  }
  const auto group = latticed::ProcessGroup::Join(
      place, {.join_seconds = absl::GetFlag(FLAGS_rendezvous_seconds),
              .exchange_seconds = absl::GetFlag(FLAGS_exchange_seconds)});
  if (!group.ok()) return Fail(group.status(), who);
  const auto outcome = latticed::Train(options, spec, progress, metrics->get(),
                                       g_stop, group->get());
  if (!outcome.ok()) return Fail(outcome.status(), who);
  if (*outcome == latticed::TrainOutcome::kFinished) return 0;
  progress->Say("stopped, state saved; the same command continues");
  // A launcher that sees the first process end tells the others to: they have
  // done all that there is to do, and the group is only being left.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
  return *outcome == latticed::TrainOutcome::kInterrupted ? kInterrupted : 0;
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
  absl::FlagsUsageConfig usage;
  usage.version_string = [] {
    return absl::StrCat("latticed-train ", latticed::kBuildId, "\n");
  };
  usage.contains_help_flags = [](absl::string_view file) {
    return file.find("trainer/main.cc") != absl::string_view::npos;
  };
  absl::SetFlagsUsageConfig(usage);
  const std::vector<char*> positional = absl::ParseCommandLine(argc, argv);
  std::signal(SIGINT, HandleSignal);
  std::signal(SIGTERM, HandleSignal);

  const std::string subcommand = positional.size() > 1 ? positional[1] : "";
  const auto place = Place();
  if (!place.ok()) return Fail(place.status());
  if (place->size > 1 && !subcommand.empty()) {
    return Fail(absl::InvalidArgumentError(absl::StrCat(
        "'", subcommand, "' is the work of one process, and this is one of ",
        place->size,
        ": start it without torchrun and srun, or with --launcher=none")));
  }
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
  const int threads = absl::GetFlag(FLAGS_threads);
  latticed::SetComputeThreads(threads == 0 && place->size > 1 ? 1 : threads);
  latticed::Progress progress(absl::GetFlag(FLAGS_quiet) || place->rank > 0);

  if (subcommand == "reference") {
    const absl::Status status = latticed::RunReferenceCommand(
        options, *spec,
        {.updates = absl::GetFlag(FLAGS_updates),
         .configurations = absl::GetFlag(FLAGS_configurations),
         .if_missing = absl::GetFlag(FLAGS_if_missing)},
        &progress, g_stop);
    if (status.ok()) return 0;
    return absl::IsCancelled(status) ? (Fail(status), kInterrupted)
                                     : Fail(status);
  }
  return TrainFlow(options, *spec, *place, &progress);
}
