// Prometheus metrics of a training.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "trainer/progress.h"

namespace prometheus {
class Counter;
class Gauge;
class Registry;
}  // namespace prometheus

namespace latticed {

class HttpServer;

// All series exist at zero from the start. Thread-compatible.
class TrainerMetrics {
 public:
  // `listen` "HOST:PORT" serves /metrics; empty serves nothing.
  // INVALID_ARGUMENT if it is no address, or one that other machines reach
  // without `allow_remote`; UNAVAILABLE if it cannot be bound.
  static absl::StatusOr<std::unique_ptr<TrainerMetrics>> Create(
      const std::string& listen, const std::string& model,
      bool allow_remote = false);
  ~TrainerMetrics();

  // Non-finite figures are left out: they would poison a series.
  void Report(const ProgressReport& report, uint64_t draws);
  void Published(double ess);
  // "HOST:PORT", empty if nothing is served.
  const std::string& address() const { return address_; }

 private:
  TrainerMetrics();

  std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Gauge* loss_;
  prometheus::Gauge* ess_;
  prometheus::Gauge* sigma2_;
  prometheus::Gauge* gradient_norm_;
  prometheus::Gauge* learning_rate_;
  prometheus::Gauge* published_ess_;
  prometheus::Counter* steps_;
  prometheus::Counter* draws_;
  prometheus::Counter* non_finite_;
  prometheus::Counter* published_;
  int64_t last_step_ = -1;
  uint64_t last_draws_ = 0;
  int64_t last_non_finite_ = 0;
  std::string address_;
  // Last: its threads read the registry.
  std::unique_ptr<HttpServer> http_;
};

}  // namespace latticed
