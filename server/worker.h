// The one thread that owns the device: draws tile after tile, straight into
// the blocks that replies send.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "server/metrics.h"
#include "server/recent_draws.h"
#include "server/scheduler.h"
#include "server/served_version.h"

namespace latticed {

class Worker {
 public:
  // Starts the thread. All outlive it. `recent`: null if nobody looks at draws.
  // `on_device_lost` is called once, on that thread, when nothing can be drawn
  // any more.
  Worker(std::shared_ptr<Scheduler> scheduler,
         std::shared_ptr<Graveyard> graveyard, std::shared_ptr<Metrics> metrics,
         std::function<void()> on_device_lost = nullptr,
         std::shared_ptr<RecentDraws> recent = nullptr);
  // The scheduler must have been stopped.
  ~Worker();

 private:
  void Run();
  void Draw(const Tile& tile);
  void Evaluate(const Tile& tile, size_t sites);
  void Scatter(const Tile& tile, size_t sites);

  const std::shared_ptr<Scheduler> scheduler_;
  const std::shared_ptr<Graveyard> graveyard_;
  const std::shared_ptr<Metrics> metrics_;
  std::function<void()> on_device_lost_;
  const std::shared_ptr<RecentDraws> recent_;

  // Worker thread only.
  std::vector<DrawId> ids_;
  std::vector<float> phi_;
  std::vector<double> log_q_;
  std::vector<double> action_;

  std::thread thread_;
};

}  // namespace latticed
