#include "trainer/process_place.h"

#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace latticed {
namespace {

constexpr int kSizeMax = 4096;

using Environment = std::map<std::string, std::string>;

constexpr char kAlone[] =
    "; to train in one process whatever the environment says, use "
    "--launcher=none";

std::optional<std::string> Find(const Environment& environment,
                                const std::string& name) {
  const auto found = environment.find(name);
  if (found == environment.end() || found->second.empty()) return std::nullopt;
  return found->second;
}

absl::StatusOr<int64_t> Number(const Environment& environment,
                               const std::string& name, int64_t min,
                               int64_t max) {
  const auto text = Find(environment, name);
  if (!text.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name,
        " is not set, but other variables say that this is one of "
        "several processes; start them all with torchrun or srun, or "
        "set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT",
        kAlone));
  }
  int64_t value = 0;
  if (!absl::SimpleAtoi(*text, &value) || value < min || value > max) {
    return absl::InvalidArgumentError(absl::StrCat(name, "='", *text,
                                                   "' is not a number from ",
                                                   min, " to ", max, kAlone));
  }
  return value;
}

absl::Status ReadRank(const Environment& environment, const std::string& rank,
                      const std::string& size, const std::string& local_rank,
                      ProcessPlace* place) {
  const auto size_read = Number(environment, size, 1, kSizeMax);
  if (!size_read.ok()) return size_read.status();
  const auto rank_read = Number(environment, rank, 0, kSizeMax - 1);
  if (!rank_read.ok()) return rank_read.status();
  if (*rank_read >= *size_read) {
    return absl::InvalidArgumentError(absl::StrCat(
        rank, "=", *rank_read, " is not below ", size, "=", *size_read,
        ": ranks count from 0; give every process of a training the same ",
        size, kAlone));
  }
  place->rank = static_cast<int>(*rank_read);
  place->size = static_cast<int>(*size_read);
  if (Find(environment, local_rank).has_value()) {
    const auto local = Number(environment, local_rank, 0, *size_read - 1);
    if (!local.ok()) return local.status();
    place->local_rank = static_cast<int>(*local);
  }
  return absl::OkStatus();
}

bool IsLoopbackName(const std::string& host) {
  return host == "localhost" || host == "::1" || absl::StartsWith(host, "127.");
}

absl::StatusOr<ProcessPlace> TorchrunPlace(const Environment& environment,
                                           int port) {
  ProcessPlace place;
  if (const absl::Status read =
          ReadRank(environment, "RANK", "WORLD_SIZE", "LOCAL_RANK", &place);
      !read.ok()) {
    return read;
  }
  if (place.size == 1) return place;
  const auto host = Find(environment, "MASTER_ADDR");
  if (!host.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "MASTER_ADDR is not set: the processes of WORLD_SIZE=", place.size,
        " would not find each other; set it to the machine of RANK=0, "
        "127.0.0.1 if all are on one",
        kAlone));
  }
  place.host = *host;
  place.port = port;
  if (port == 0) {
    const auto given = Number(environment, "MASTER_PORT", 1, 65535);
    if (!given.ok()) return given.status();
    place.port = static_cast<int>(*given);
  }
  place.store_is_given =
      port == 0 &&
      Find(environment, "TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
  place.attempt = Find(environment, "TORCHELASTIC_RESTART_COUNT").value_or("0");
  place.one_machine = IsLoopbackName(place.host) ||
                      Find(environment, "LOCAL_WORLD_SIZE").value_or("") ==
                          absl::StrCat(place.size);
  return place;
}

absl::StatusOr<ProcessPlace> SlurmPlace(const Environment& environment,
                                        int port) {
  ProcessPlace place;
  const std::string size = Find(environment, "SLURM_STEP_NUM_TASKS").has_value()
                               ? "SLURM_STEP_NUM_TASKS"
                               : "SLURM_NTASKS";
  if (const absl::Status read =
          ReadRank(environment, "SLURM_PROCID", size, "SLURM_LOCALID", &place);
      !read.ok()) {
    return read;
  }
  if (place.size == 1) return place;
  place.attempt = Find(environment, "SLURM_RESTART_COUNT").value_or("0");
  const auto nodes = Find(environment, "SLURM_STEP_NUM_NODES");
  const auto list = Find(environment, "SLURM_STEP_NODELIST");
  place.one_machine = nodes.value_or("") == "1";
  if (const auto host = Find(environment, "MASTER_ADDR"); host.has_value()) {
    place.host = *host;
  } else if (place.one_machine) {
    place.host = "127.0.0.1";
  } else if (list.has_value()) {
    place.host = FirstHost(*list);
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "neither SLURM_STEP_NODELIST nor MASTER_ADDR is set: the processes of "
        "this step would not find each other; start them with srun, or set "
        "MASTER_ADDR to the machine of SLURM_PROCID=0",
        kAlone));
  }
  place.port = port;
  if (port == 0 && Find(environment, "MASTER_PORT").has_value()) {
    const auto given = Number(environment, "MASTER_PORT", 1, 65535);
    if (!given.ok()) return given.status();
    place.port = static_cast<int>(*given);
  } else if (port == 0) {
    constexpr int64_t kLarge = int64_t{1} << 32;
    const auto job = Number(environment, "SLURM_JOB_ID", 0, kLarge);
    const auto step = Number(environment, "SLURM_STEP_ID", 0, kLarge);
    if (!job.ok()) return job.status();
    if (!step.ok()) return step.status();
    // Below the ports that Linux hands out itself, from 32768.
    place.port = static_cast<int>(10000 + (31 * *job + *step) % 20000);
  }
  return place;
}

}  // namespace

const std::vector<std::string>& PlaceVariables() {
  static const auto* const names =
      new std::vector<std::string>{"RANK",
                                   "WORLD_SIZE",
                                   "LOCAL_RANK",
                                   "LOCAL_WORLD_SIZE",
                                   "MASTER_ADDR",
                                   "MASTER_PORT",
                                   "TORCHELASTIC_USE_AGENT_STORE",
                                   "TORCHELASTIC_RESTART_COUNT",
                                   "SLURM_PROCID",
                                   "SLURM_NTASKS",
                                   "SLURM_LOCALID",
                                   "SLURM_JOB_ID",
                                   "SLURM_STEP_ID",
                                   "SLURM_STEP_NUM_TASKS",
                                   "SLURM_STEP_NUM_NODES",
                                   "SLURM_STEP_NODELIST",
                                   "SLURM_RESTART_COUNT",
                                   "GLOO_SOCKET_IFNAME"};
  return *names;
}

std::string FirstHost(const std::string& node_list) {
  std::string host;
  bool in_range = false, taken = false;  // within [], past its first number
  for (const char c : node_list) {
    if (c == '[') {
      in_range = true;
      taken = false;
    } else if (c == ']') {
      in_range = false;
    } else if (in_range) {
      taken = taken || c == '-' || c == ',';
      if (!taken) host += c;
    } else if (c == ',') {
      break;
    } else {
      host += c;
    }
  }
  return host;
}

absl::StatusOr<ProcessPlace> PlaceOf(const Environment& environment,
                                     const std::string& launcher, int port) {
  if (port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rendezvous_port=", port, " is no port, 0..65535"));
  }
  const bool torchrun = Find(environment, "RANK").has_value() ||
                        Find(environment, "WORLD_SIZE").has_value();
  // In a batch script SLURM_PROCID and SLURM_NTASKS are set too: only srun
  // makes steps.
  const auto tasks = Find(environment, "SLURM_STEP_NUM_TASKS");
  const bool slurm = Find(environment, "SLURM_STEP_ID").has_value() &&
                     tasks.has_value() && *tasks != "1";
  absl::StatusOr<ProcessPlace> place = ProcessPlace();
  if (launcher == "torchrun" || (launcher == "auto" && torchrun)) {
    place = TorchrunPlace(environment, port);
  } else if (launcher == "slurm" || (launcher == "auto" && slurm)) {
    place = SlurmPlace(environment, port);
  } else if (launcher != "none" && launcher != "auto") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--launcher=", launcher, ": there are auto, torchrun, slurm and none"));
  }
  if (place.ok()) {
    place->interface = Find(environment, "GLOO_SOCKET_IFNAME").value_or("");
  }
  return place;
}

}  // namespace latticed
