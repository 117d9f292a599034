// Draws what the gate looks at, in the background, through the scheduler that
// serves everybody.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/checkpoint/repository.h"
#include "server/gate.h"
#include "server/scheduler.h"
#include "server/served_version.h"

namespace latticed {

struct GateSubject {
  VersionRef version;
  VersionRef doubled;                          // the same at 2N steps
  std::shared_ptr<const Reference> reference;  // null if there is none
};

class GateRunner {
 public:
  // `stream` names the gate's stream; the default is every server's.
  GateRunner(std::shared_ptr<Scheduler> scheduler, int64_t draws,
             double seconds, std::string stream = "latticed gate");

  // Takes up to about `seconds`; whatever was drawn by then is the evidence.
  // CANCELLED if `stopping` turns true; FAILED_PRECONDITION if drawing fails.
  absl::StatusOr<GateEvidence> Collect(
      const GateSubject& subject, const std::function<bool()>& stopping) const;

 private:
  const std::shared_ptr<Scheduler> scheduler_;
  const int64_t draws_;
  const double seconds_;
  const std::string stream_;
};

}  // namespace latticed
