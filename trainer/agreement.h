// What the processes of a training have to agree on.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "trainer/process_group.h"

namespace latticed {

// `work` is done by process 0; all return what it returned.
absl::Status OnFirst(ProcessGroup* group,
                     absl::FunctionRef<absl::Status()> work);

// (what it is, its value): FAILED_PRECONDITION in every process if one of them
// has another value than process 0. Only digests are exchanged.
absl::Status ExpectAlike(
    ProcessGroup* group,
    const std::vector<std::pair<std::string, std::string>>& values);

}  // namespace latticed
