#include "trainer/process_group.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/heartbeats.h"

namespace latticed {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Who does not show a sign of life for so long is gone or stopped.
constexpr milliseconds kSilence{4000};
// How much longer process 0 keeps the store, for those that still need it.
constexpr milliseconds kLeave{10000};
constexpr int64_t kSameMax = 1000;
constexpr int64_t kShareMax = int64_t{1} << 30;

milliseconds Milliseconds(double seconds) {
  return milliseconds(static_cast<int64_t>(1000 * seconds));
}

// c10d's messages carry a stack trace, one line a frame.
std::string FirstLine(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

std::string ThisProcess() {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  return absl::StrCat("host ", host, ", pid ", getpid());
}

std::vector<uint8_t> Bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

// False if the key is not there in time.
bool WaitFor(c10d::Store& store, const std::string& key,
             Clock::time_point end) {
  while (!store.check({key})) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(milliseconds(20));
  }
  return true;
}

std::shared_ptr<gloo::transport::Device> Device(const ProcessPlace& place) {
  using c10d::ProcessGroupGloo;
  if (!place.interface.empty()) {
    return ProcessGroupGloo::createDeviceForInterface(place.interface);
  }
  if (place.one_machine) {
    return ProcessGroupGloo::createDeviceForHostname("127.0.0.1");
  }
  return ProcessGroupGloo::createDefaultDevice();
}

}  // namespace

struct ProcessGroup::Torch {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  std::unique_ptr<Heartbeats> heartbeats;
};

ProcessGroup::ProcessGroup(int rank, int size) : rank_(rank), size_(size) {}

std::unique_ptr<ProcessGroup> ProcessGroup::Alone() {
  return std::unique_ptr<ProcessGroup>(new ProcessGroup(0, 1));
}

absl::StatusOr<std::unique_ptr<ProcessGroup>> ProcessGroup::Join(
    const ProcessPlace& place, const ProcessLimits& limits) {
  if (place.size == 1) return Alone();
  std::unique_ptr<ProcessGroup> group(new ProcessGroup(place.rank, place.size));
  auto torch = std::make_unique<Torch>();
  const std::string where = absl::StrCat(place.host, ":", place.port);
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = place.rank == 0 && !place.store_is_given;
  options.numWorkers = place.size;
  options.waitWorkers = false;
  options.timeout = Milliseconds(limits.join_seconds);
  const Clock::time_point end = Clock::now() + options.timeout;
  try {
    torch->store = c10::make_intrusive<c10d::PrefixStore>(
        absl::StrCat("latticed/", place.attempt),
        c10::make_intrusive<c10d::TCPStore>(place.host, options));
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        options.isServer
            ? absl::StrCat("cannot keep the processes' store on port ",
                           place.port, ": ", FirstLine(error),
                           "; if another program has the port, choose one with "
                           "MASTER_PORT or --rendezvous_port")
            : absl::StrCat(
                  "process ", place.rank, " of ", place.size,
                  " cannot reach the store of process 0 at ", where, " within ",
                  limits.join_seconds, " s: ", FirstLine(error),
                  "; look whether process 0 runs and what it says, whether "
                  "MASTER_ADDR and MASTER_PORT are the same for all, and "
                  "whether a firewall is between; --rendezvous_seconds waits "
                  "longer"));
  }
  try {
    c10d::Store& store = *torch->store;
    const std::string own = absl::StrCat("process/", place.rank);
    const int64_t same = store.add(absl::StrCat("count/", place.rank), 1);
    if (same < 1 || same > kSameMax) {
      return absl::UnavailableError(absl::StrCat(
          "what answers at ", where,
          " is not the store of a training; see that MASTER_ADDR and "
          "MASTER_PORT, or --rendezvous_port, are those of process 0"));
    }
    if (same > 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "two processes are number ", place.rank, " at ", where,
          "; give each its own RANK, and two trainings at a time different "
          "ports"));
    }
    store.set(own, Bytes(ThisProcess()));
    std::vector<int> missing;
    for (int rank = 0; rank < place.size; ++rank) {
      if (!WaitFor(store, absl::StrCat("process/", rank), end)) {
        missing.push_back(rank);
      }
    }
    if (!missing.empty()) {
      return absl::DeadlineExceededError(absl::StrCat(
          "of ", place.size, " processes ", absl::StrJoin(missing, ", "),
          " did not come within ", limits.join_seconds,
          " s; look what they say, or wait longer with --rendezvous_seconds"));
    }
    auto gloo = c10d::ProcessGroupGloo::Options::create(
        Milliseconds(limits.exchange_seconds));
    gloo->devices.push_back(Device(place));
    gloo->threads = 1;
    torch->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        torch->store, place.rank, place.size, gloo);
    torch->heartbeats = std::make_unique<Heartbeats>(
        place.rank, place.size, kSilence,
        [store = torch->store](int rank, int64_t add) {
          return store->add(absl::StrCat("alive/", rank), add);
        });
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat(
        "process ", place.rank, " of ", place.size,
        " cannot join the others, who have met at ", where, ": ",
        FirstLine(error),
        "; another may have ended, see what they say; between machines set "
        "GLOO_SOCKET_IFNAME to the network interface that they share"));
  }
  group->torch_ = std::move(torch);
  return group;
}

ProcessGroup::~ProcessGroup() {
  if (torch_ == nullptr || !broken_.ok()) return;
  torch_->heartbeats.reset();
  try {
    torch_->store->set(absl::StrCat("left/", rank_), Bytes("1"));
    const Clock::time_point end = Clock::now() + kLeave;
    for (int rank = 1; rank_ == 0 && rank < size_; ++rank) {
      WaitFor(*torch_->store, absl::StrCat("left/", rank), end);
    }
  } catch (const std::exception&) {
    // The others have gone; so do we.
  }
}

absl::Status ProcessGroup::SumUp(absl::Span<double> values) {
  if (alone() || !broken_.ok()) return broken_;
  try {
    std::vector<at::Tensor> tensors = {
        at::from_blob(values.data(), {static_cast<int64_t>(values.size())},
                      at::TensorOptions().dtype(at::kDouble))};
    torch_->gloo->allreduce(tensors)->wait();
  } catch (const std::exception& error) {
    return Lost(FirstLine(error));
  }
  bytes_exchanged_ += static_cast<int64_t>(sizeof(double) * values.size());
  return absl::OkStatus();
}

absl::Status ProcessGroup::Share(std::string* bytes) {
  if (alone() || !broken_.ok()) return broken_;
  try {
    std::vector<at::Tensor> size = {
        at::full({1}, static_cast<int64_t>(bytes->size()), at::kLong)};
    torch_->gloo->broadcast(size)->wait();
    const auto n = size[0].item<int64_t>();
    if (n < 0 || n > kShareMax) {
      return Lost(absl::StrCat("process 0 shares ", n, " bytes"));
    }
    bytes->resize(n);
    if (n == 0) return absl::OkStatus();
    std::vector<at::Tensor> contents = {at::from_blob(
        bytes->data(), {n}, at::TensorOptions().dtype(at::kByte))};
    torch_->gloo->broadcast(contents)->wait();
    bytes_exchanged_ += n;
  } catch (const std::exception& error) {
    return Lost(FirstLine(error));
  }
  return absl::OkStatus();
}

absl::Status ProcessGroup::Lost(const std::string& what) {
  // Closes the connections, so that all others learn of it too.
  torch_->gloo.reset();
  broken_ = absl::UnavailableError(absl::StrCat(
      Missing(), " (", what,
      "); the training ends here, and the same command, with any number of "
      "processes, goes on from the last saved state"));
  return broken_;
}

std::string ProcessGroup::Missing() {
  const auto silent = torch_->heartbeats->Silent();
  if (!silent.ok()) {
    return absl::StrCat("process 0 of ", size_,
                        " is gone or does not answer, and with it the store "
                        "that knows of the others");
  }
  std::vector<std::string> names;
  try {
    for (const int rank : *silent) {
      const auto who = torch_->store->get(absl::StrCat("process/", rank));
      names.push_back(
          absl::StrCat(rank, " (", std::string(who.begin(), who.end()), ")"));
    }
    torch_->store->set(absl::StrCat("left/", rank_), Bytes("1"));
    // The others may be in the middle of a step, and then ask the store too.
    const Clock::time_point end = Clock::now() + kLeave;
    for (int rank = 1; rank_ == 0 && rank < size_; ++rank) {
      if (absl::c_linear_search(*silent, rank)) continue;
      WaitFor(*torch_->store, absl::StrCat("left/", rank), end);
    }
  } catch (const std::exception&) {
    // Process 0 was quicker; the names are known all the same.
  }
  if (names.empty()) return "the connection to another process broke";
  return absl::StrCat("process ", absl::StrJoin(names, ", "), " of ", size_,
                      " is gone or does not answer");
}

}  // namespace latticed
