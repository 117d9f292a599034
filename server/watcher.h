// Polls the repository and brings its newest valid version of each model live.
//
// Reading, verifying and loading happen on this thread; the smoke check's draws
// share the device with those of calls. Nothing here ever takes a live version
// away: not an unreadable repository, an empty one, or a worse checkpoint. A
// version that failed is REJECTED with the reason and not tried again unless
// its digest changes; one that could not be read is tried at the next poll.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/repository.h"
#include "core/sampling/tile_sampler.h"
#include "server/config.h"
#include "server/flow_store.h"
#include "server/metrics.h"
#include "server/mutex.h"
#include "server/scheduler.h"
#include "server/served_version.h"

namespace latticed {

using SamplerFactory =
    std::function<absl::StatusOr<std::unique_ptr<TileSampler>>(
        const Checkpoint&)>;

class Watcher {
 public:
  // All outlive it. `on_live` hears of every model that has a live version.
  Watcher(const Config& config, SamplerFactory make_sampler,
          std::shared_ptr<FlowStore> store,
          std::shared_ptr<Scheduler> scheduler,
          std::shared_ptr<Graveyard> graveyard,
          std::shared_ptr<Metrics> metrics,
          std::function<void(const std::string& model)> on_live);
  ~Watcher();  // stops

  // One pass. The error, if any, is the repository's own.
  absl::Status Poll();
  // Polls on a thread of its own from now on.
  void Start();
  void Stop();

 private:
  void Run();
  absl::Status PollModel(const std::string& model);
  // True once `version` is settled: live or rejected.
  bool TryVersion(const std::string& model, int64_t version,
                  const std::string& digest);
  void Reject(VersionRecord record, const absl::Status& why);
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
  const std::function<void(const std::string&)> on_live_;

  // Polling thread only.
  std::map<std::string, std::string> reported_;

  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace latticed
