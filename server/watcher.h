// Polls the repository and loads the newest version of each model that nothing
// speaks against.
//
// Reading, verifying and loading happen on this thread; the smoke check's draws
// share the device with those of calls. A version that passes it goes to the
// gate, or live at once if the gate accepted it before or the model has nothing
// to serve. Nothing here ever takes a live version away: not an unreadable
// repository, an empty one, or a worse checkpoint. What could not be read is
// tried again at the next poll, what is damaged is not.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/repository.h"
#include "core/sampling/tile_sampler.h"
#include "server/config.h"
#include "server/flow_store.h"
#include "server/gatekeeper.h"
#include "server/lifecycle.h"
#include "server/metrics.h"
#include "server/mutex.h"
#include "server/scheduler.h"
#include "server/served_version.h"

namespace latticed {

// `step_factor` times the spec's RK4 steps.
using SamplerFactory =
    std::function<absl::StatusOr<std::unique_ptr<TileSampler>>(
        const Checkpoint&, int step_factor)>;

class Watcher {
 public:
  // `gatekeeper`: null for no gate.
  Watcher(const Config& config, SamplerFactory make_sampler,
          std::shared_ptr<FlowStore> store,
          std::shared_ptr<Scheduler> scheduler,
          std::shared_ptr<Graveyard> graveyard,
          std::shared_ptr<Metrics> metrics,
          std::shared_ptr<Lifecycle> lifecycle,
          std::shared_ptr<Gatekeeper> gatekeeper);
  ~Watcher();  // stops

  // One pass. The error, if any, is the repository's own.
  absl::Status Poll();
  // Polls on a thread of its own from now on.
  void Start();
  // Runs on that thread, before the next poll, which follows at once. False if
  // too many wait already; dropped when it stops.
  bool Post(std::function<void()> task);
  // Loads a version by its digest, for Promote; the polling thread only.
  // NOT_FOUND, or why it cannot be loaded.
  absl::StatusOr<VersionRef> Load(const std::string& model,
                                  const std::string& digest);
  void Stop();

 private:
  void Run();
  absl::Status PollModel(const std::string& model);
  // Newest first, but the one that was live when the server last ran before
  // all if nothing is.
  std::vector<int64_t> InOrder(const std::string& model,
                               std::vector<int64_t> versions) const;
  // Makes a version known that is not looked at.
  void List(const std::string& model, int64_t version);
  // Whether there is nothing to do for a version, which then has a record that
  // says why.
  bool Settled(const std::string& model, int64_t version,
               const std::string& digest);
  // True once `version` is live or at the gate.
  bool TryVersion(const std::string& model, int64_t version,
                  const std::string& digest);
  // Verified, loaded and smoke-checked; null if not, which the record tells.
  VersionRef LoadVersion(const std::string& model, int64_t version,
                         const std::string& digest, GateSubject* subject);
  absl::StatusOr<VersionRef> Build(const Checkpoint& checkpoint,
                                   const Reference* reference, int step_factor);
  // Null if the model has none that fits.
  std::shared_ptr<const Reference> ReferenceOf(const Checkpoint& checkpoint);
  // OK, or why the draws are not fit to serve.
  absl::Status SmokeCheck(const VersionRef& version);
  // Logs a problem once, until it changes or goes away.
  void Report(const std::string& subject, const absl::Status& status);
  bool Stopping() const;

  const Config config_;
  const SamplerFactory make_sampler_;
  const std::shared_ptr<FlowStore> store_;
  const std::shared_ptr<Scheduler> scheduler_;
  const std::shared_ptr<Graveyard> graveyard_;
  const std::shared_ptr<Metrics> metrics_;
  const std::shared_ptr<Lifecycle> lifecycle_;
  const std::shared_ptr<Gatekeeper> gatekeeper_;

  // Polling thread only.
  std::map<std::string, std::string> reported_;

  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace latticed
