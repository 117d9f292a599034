// Where a process stands among those of one training, from the environment
// that torchrun or srun gave it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace latticed {

struct ProcessPlace {
  int rank = 0;
  int size = 1;        // 1: trains alone, and the rest means nothing
  int local_rank = 0;  // on its machine
  // Where the processes find each other: c10d's store, which process 0 keeps,
  // or torchrun's agent if `store_is_given`.
  std::string host;
  int port = 0;
  bool store_is_given = false;
  std::string attempt;       // of torchrun's restarts, "0" first
  bool one_machine = false;  // all of them: they talk over the loopback
  // To talk over, GLOO_SOCKET_IFNAME; empty: the address of the machine's name.
  std::string interface;
};

// What PlaceOf reads.
const std::vector<std::string>& PlaceVariables();

// `launcher`:
//   torchrun  RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT;
//             LOCAL_WORLD_SIZE and TORCHELASTIC_* if they are there
//   slurm     of a step of srun: SLURM_PROCID, SLURM_STEP_NUM_TASKS (or
//             SLURM_NTASKS), SLURM_LOCALID, and for the store MASTER_ADDR and
//             MASTER_PORT, else the first machine of SLURM_STEP_NODELIST
//             (127.0.0.1 if there is one only) and port
//             10000 + (31 SLURM_JOB_ID + SLURM_STEP_ID) mod 20000
//   none      alone
//   auto      torchrun if RANK or WORLD_SIZE is set, else slurm in a step of
//             several tasks, else alone: a batch script is no step
// A `port` other than 0 goes before the environment's. INVALID_ARGUMENT names
// the variable that is missing or contradicts another. Pure.
absl::StatusOr<ProcessPlace> PlaceOf(
    const std::map<std::string, std::string>& environment,
    const std::string& launcher, int port);

// "n[01-03,7],m" -> "n01".
std::string FirstHost(const std::string& node_list);

}  // namespace latticed
