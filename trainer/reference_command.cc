#include "trainer/reference_command.h"

namespace latticed {

absl::Status RunReferenceCommand(const TrainOptions& options,
                                 const v1::TrainingSpec& spec,
                                 uint64_t updates, uint64_t configurations,
                                 Progress* progress) {
  return absl::UnimplementedError("reference");
}

}  // namespace latticed
