// How long a client keeps trying.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/stopwatch.h"
#include "grpcpp/channel.h"

namespace latticed {

struct RetryPolicy {
  // Waits double from `initial` up to `max`, each times a factor uniform on
  // [1/2, 1], so that clients of a restarted server do not return in step. A
  // delay asked for by the server is a lower bound.
  absl::Duration initial = absl::Milliseconds(100);
  absl::Duration max = absl::Seconds(3);
  // Without progress for so long: give up. `connect` holds until the server
  // has answered once, `outage` from then on.
  absl::Duration connect = absl::Seconds(4);
  absl::Duration outage = absl::Seconds(60);
  // A block that arrives damaged this often in a row is an error.
  int damaged_max = 3;
};

// Waits in short steps; false when `cancelled` was set meanwhile. gRPC connects
// only while somebody looks at the channel, so this does: otherwise a server
// that is back stays unnoticed for seconds. `channel` may be null.
bool WaitUnless(absl::Duration duration, const std::atomic<bool>* cancelled,
                const std::shared_ptr<grpc::Channel>& channel);

// The waits of one call. Not thread-safe.
class Retry {
 public:
  // Called before each wait.
  using Notify =
      std::function<void(const absl::Status& why, absl::Duration wait)>;

  Retry(const RetryPolicy& policy, const std::atomic<bool>* cancelled,
        Notify notify, std::shared_ptr<grpc::Channel> channel);

  // The server is there: from now on `outage` holds. Not yet progress: a
  // server that dies after every header would be tried for ever.
  void Answered() { answered_ = true; }
  // Something new arrived.
  void Progress();

  // Waits before another attempt. Returns CANCELLED, or `error` as it is if it
  // is final, or with the number of attempts once patience has run out.
  absl::Status Wait(const absl::Status& error);

  // Attempts that failed since the last progress.
  int failures() const { return failures_; }

 private:
  RetryPolicy policy_;
  const std::atomic<bool>* cancelled_;
  Notify notify_;
  std::shared_ptr<grpc::Channel> channel_;
  bool answered_ = false;
  int failures_ = 0;
  Stopwatch since_failure_;  // the first one
  std::string reason_;       // the last one known
};

}  // namespace latticed
