// Values of flags that say physics.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "latticed/v1/chain.pb.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

// "m2=-4,lambda=6.008": phi4 in the program's convention; "m2=1": the free
// field; anything with a brace: an Action in protobuf text format.
absl::StatusOr<v1::Action> ParseAction(const std::string& text);
// "8x8".
absl::StatusOr<v1::Lattice> ParseLattice(const std::string& text);
// "cluster,every=100", "hmc,every=50,repeat=2,steps=20,length=2".
absl::StatusOr<v1::ChainUpdate> ParseUpdate(const std::string& text);

}  // namespace latticed
