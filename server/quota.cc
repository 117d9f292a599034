#include "server/quota.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/errors.h"

namespace latticed {

grpc::Status DrawQuota::Take(const std::string& principal, int64_t draws,
                             Time now) {
  if (per_second_ <= 0) return grpc::Status::OK;
  const double capacity = per_second_ * kBurstSeconds;
  if (buckets_.size() >= kPrincipalsMax && buckets_.count(principal) == 0) {
    Forget(now);
  }
  Bucket& bucket =
      buckets_.try_emplace(principal, Bucket{capacity, now}).first->second;
  const double seconds =
      std::chrono::duration<double>(now - bucket.updated).count();
  bucket.left = std::min(capacity, bucket.left + seconds * per_second_);
  bucket.updated = now;
  if (bucket.left > 0) {
    bucket.left -= static_cast<double>(draws);
    return grpc::Status::OK;
  }
  // Until there is a second's worth again: less would be a trickle of calls.
  const double wait = (-bucket.left + per_second_) / per_second_;
  return Error(
             grpc::StatusCode::RESOURCE_EXHAUSTED, "QUOTA",
             absl::StrCat(principal, " has drawn its share of ", per_second_,
                          " draws a second (--draws_per_second_per_principal); "
                          "wait ",
                          std::ceil(wait), " s and go on"))
      .With("principal", principal)
      .RetryAfter(std::chrono::milliseconds(
          static_cast<int64_t>(std::ceil(1000 * wait))));
}

void DrawQuota::Forget(Time now) {
  for (auto it = buckets_.begin(); it != buckets_.end();) {
    const double seconds =
        std::chrono::duration<double>(now - it->second.updated).count();
    const bool full =
        it->second.left + seconds * per_second_ >= per_second_ * kBurstSeconds;
    it = full ? buckets_.erase(it) : std::next(it);
  }
  // All of them are in use. Whoever has most left loses least.
  if (buckets_.size() >= kPrincipalsMax) {
    buckets_.erase(std::max_element(buckets_.begin(), buckets_.end(),
                                    [](const auto& a, const auto& b) {
                                      return a.second.left < b.second.left;
                                    }));
  }
}

}  // namespace latticed
