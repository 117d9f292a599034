// A deadline of gRPC's, so long from now.
#pragma once

#include "absl/time/time.h"
#include "grpc/support/time.h"

namespace latticed {

// Without the wall clock: a deadline by it that is set just before the clock is
// set back by a day is a day away.
inline gpr_timespec In(absl::Duration duration) {
  return gpr_time_from_micros(absl::ToInt64Microseconds(duration),
                              GPR_TIMESPAN);
}

}  // namespace latticed
