// Runs the gate for one version after the other, on a thread of its own: gating
// takes up to a minute of background draws, and polling goes on meanwhile.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <thread>

#include "server/gate_runner.h"
#include "server/lifecycle.h"
#include "server/mutex.h"

namespace latticed {

// Thread-safe.
class Gatekeeper {
 public:
  Gatekeeper(const Config& config, std::shared_ptr<Scheduler> scheduler,
             std::shared_ptr<FlowStore> store,
             std::shared_ptr<Lifecycle> lifecycle);
  ~Gatekeeper();  // stops; a version at the gate stays unjudged

  // At most one a model waits or runs: the caller asks Busy first.
  void Add(GateSubject subject);
  bool Busy(const std::string& model) const;

 private:
  void Run();
  void Judge(const GateSubject& subject);
  bool Stopping() const;

  const GateRunner runner_;
  const std::shared_ptr<FlowStore> store_;
  const std::shared_ptr<Lifecycle> lifecycle_;

  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<GateSubject> queue_ ABSL_GUARDED_BY(mutex_);
  std::string running_ ABSL_GUARDED_BY(mutex_);  // the model
  std::thread thread_;
};

}  // namespace latticed
