#include "server/gatekeeper.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latticed {

Gatekeeper::Gatekeeper(const Config& config,
                       std::shared_ptr<Scheduler> scheduler,
                       std::shared_ptr<FlowStore> store,
                       std::shared_ptr<Lifecycle> lifecycle)
    : runner_(std::move(scheduler), config.gate_draws, config.gate_seconds),
      store_(std::move(store)),
      lifecycle_(std::move(lifecycle)),
      thread_([this] { Run(); }) {}

Gatekeeper::~Gatekeeper() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void Gatekeeper::Add(GateSubject subject) {
  MutexLock lock(mutex_);
  queue_.push_back(std::move(subject));
  wake_.NotifyAll();
}

bool Gatekeeper::Busy(const std::string& model) const {
  MutexLock lock(mutex_);
  return running_ == model ||
         std::any_of(queue_.begin(), queue_.end(),
                     [&model](const GateSubject& subject) {
                       return subject.version->model == model;
                     });
}

bool Gatekeeper::Stopping() const {
  MutexLock lock(mutex_);
  return stopping_;
}

void Gatekeeper::Run() {
  while (true) {
    GateSubject subject;
    {
      MutexLock lock(mutex_);
      running_.clear();
      while (queue_.empty() && !stopping_) {
        wake_.WaitFor(mutex_, std::chrono::seconds(1));
      }
      if (stopping_) return;
      subject = std::move(queue_.front());
      queue_.pop_front();
      running_ = subject.version->model;
    }
    Judge(subject);
  }
}

void Gatekeeper::Judge(const GateSubject& subject) {
  const VersionRef& version = subject.version;
  // Quarantined or replaced while it waited.
  const auto wanted = [this, &version] {
    return store_->Live(version->model) == version ||
           store_->Candidate(version->model) == version;
  };
  if (!wanted()) return;
  const auto evidence = runner_.Collect(
      subject, [this, &wanted] { return Stopping() || !wanted(); });
  v1::GateReport report;
  if (absl::IsCancelled(evidence.status())) return;
  if (!evidence.ok()) {
    v1::GateCheck& check = *report.add_checks();
    check.set_name("drawing");
    check.set_detail(std::string(evidence.status().message()));
  } else {
    std::optional<GateBaseline> live;
    const VersionRef serving = store_->Live(version->model);
    if (serving != nullptr && serving != version) {
      const auto judged = lifecycle_->Standing(version->model, serving->digest);
      if (judged && judged->has_gate()) {
        live = GateBaseline{judged->gate().ess().value(),
                            judged->gate().acceptance().value(),
                            judged->gate().draws_per_second()};
      }
    }
    report = latticed::Judge(
        *evidence, version->manifest.spec().ess_floor(),
        subject.reference == nullptr ? nullptr : &subject.reference->manifest,
        live, GateLimits());
  }
  lifecycle_->Judged(version, report);
}

}  // namespace latticed
