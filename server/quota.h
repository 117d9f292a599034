// Draws a second of each principal: a token bucket that holds ten seconds'
// worth. Thread-compatible.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "grpcpp/support/status.h"

namespace latticed {

class DrawQuota {
 public:
  using Time = std::chrono::steady_clock::time_point;

  static constexpr double kBurstSeconds = 10;
  // Buckets kept; those that are full again are forgotten first.
  static constexpr size_t kPrincipalsMax = 4096;

  explicit DrawQuota(double draws_per_second)  // 0: no quota
      : per_second_(draws_per_second) {}

  // OK takes `draws` (0: only asks), even more than there are: the debt is paid
  // back before anything else is drawn, so that a block may be larger than the
  // bucket. RESOURCE_EXHAUSTED QUOTA with RetryInfo when nothing is left.
  grpc::Status Take(const std::string& principal, int64_t draws, Time now);

 private:
  struct Bucket {
    double left;
    Time updated;
  };
  void Forget(Time now);

  const double per_second_;
  std::map<std::string, Bucket> buckets_;
};

}  // namespace latticed
