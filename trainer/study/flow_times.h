// The field at intermediate times of the gated flow.
#pragma once

#include "absl/status/statusor.h"
#include "trainer/study/study.h"

namespace latticed {

// Tables "flow_time" and "two_point": observables of phi(t) at the boundaries
// of Runge-Kutta steps, t = 0 the base distribution, t = 1 the flow's draws
// (not reweighted).
std::vector<Table> FlowTimeTables();
absl::StatusOr<Rows> FlowTimes(const StudyRun& run, int64_t l);

}  // namespace latticed
