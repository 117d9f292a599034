// log q and S of the caller's configurations.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "client/retry.h"
#include "client/session.h"
#include "latticed/v1/sampler.pb.h"

namespace latticed {

// Values are pure functions of (digest, configuration), so after a break what
// has no answer is sent again, pinned to the digest it began with. Not
// thread-safe.
class Evaluator {
 public:
  Evaluator(std::shared_ptr<const Session> session,
            const v1::ModelSelector& model);
  ~Evaluator();

  // phi [n, L_0, L_1] of at most 2 MiB, finite; log_q and action become [n],
  // not finite where the flow or the action overflow. An error ends the
  // evaluation.
  absl::Status Evaluate(absl::Span<const float> phi, std::vector<double>* log_q,
                        std::vector<double>* action);

  // Valid once Evaluate has succeeded; it names no stream.
  const v1::Provenance& provenance() const { return provenance_; }
  int resumes() const { return resumes_; }

 private:
  class Call;

  absl::Status Attempt(absl::Span<const float> phi, std::vector<double>* log_q,
                       std::vector<double>* action);

  std::shared_ptr<const Session> session_;
  v1::ModelSelector model_;
  Retry retry_;
  std::unique_ptr<Call> call_;
  bool begun_ = false;
  v1::Provenance provenance_;
  int resumes_ = 0;
  int damaged_ = 0;  // in a row
};

}  // namespace latticed
