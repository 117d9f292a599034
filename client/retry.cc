#include "client/retry.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/errors.h"

namespace latticed {

bool SleepUnless(absl::Duration duration, const std::atomic<bool>* cancelled) {
  const absl::Time until = absl::Now() + duration;
  while (true) {
    if (cancelled != nullptr && cancelled->load()) return false;
    const absl::Duration left = until - absl::Now();
    if (left <= absl::ZeroDuration()) return true;
    absl::SleepFor(std::min(left, absl::Milliseconds(20)));
  }
}

Retry::Retry(const RetryPolicy& policy, const std::atomic<bool>* cancelled,
             Notify notify)
    : policy_(policy), cancelled_(cancelled), notify_(std::move(notify)) {}

void Retry::Progress() {
  answered_ = true;
  failures_ = 0;
}

absl::Status Retry::Wait(const absl::Status& error) {
  if (cancelled_ != nullptr && cancelled_->load()) {
    return absl::CancelledError("interrupted");
  }
  if (!IsTransient(error)) return error;
  // A server that is full, starting or stopping, and says when to come back.
  if (RetryDelay(error).has_value()) answered_ = true;
  const absl::Time now = absl::Now();
  if (failures_++ == 0) {
    first_failure_ = now;
    reason_.clear();
  }
  if (reason_.empty() || error.message() != kCannotConnect) {
    reason_ = std::string(error.message());
  }

  // 2^20 waits of `initial` are beyond any `max`; the cap avoids overflow.
  const absl::Duration full =
      std::min(policy_.max,
               policy_.initial * (int64_t{1} << std::min(failures_ - 1, 20)));
  // Jitter is about other clients, not about physics: no stream is spent on it.
  thread_local std::minstd_rand random{std::random_device{}()};
  absl::Duration wait =
      full * std::uniform_real_distribution<double>(0.5, 1)(random);
  if (const auto asked = RetryDelay(error)) wait = std::max(wait, *asked);

  const absl::Duration patience = answered_ ? policy_.outage : policy_.connect;
  if (now + wait > first_failure_ + patience) {
    return WithMessage(
        error, absl::StrCat(reason_, " (gave up after ", failures_,
                            failures_ == 1 ? " attempt" : " attempts", " in ",
                            absl::FormatDuration(absl::Trunc(
                                now - first_failure_, absl::Milliseconds(1))),
                            ")"));
  }
  if (notify_) notify_(error, wait);
  if (!SleepUnless(wait, cancelled_)) {
    return absl::CancelledError("interrupted");
  }
  return absl::OkStatus();
}

}  // namespace latticed
