// The conventions of our .proto files (Google AIP and buf STANDARD, as far as
// they apply), and the numbers that are on the wire and on disk for good.
#pragma once

#include <string>
#include <vector>

#include "google/protobuf/descriptor.pb.h"

namespace latticed {

// One line for each breach: which element, and what was expected. Files of
// other packages than latticed.* are taken as they are.
std::vector<std::string> ProtoBreaches(
    const google::protobuf::FileDescriptorSet& files);

// Every field and enum value, one line each, sorted:
//   latticed.v1.Lattice.extent = 1 repeated uint32
std::vector<std::string> ProtoNumbers(
    const google::protobuf::FileDescriptorSet& files);

// What is wrong with `now` when `golden` has been published: a line that
// changed or vanished without its number being reserved, or a new line that
// golden does not have yet.
std::vector<std::string> NumberBreaches(
    const google::protobuf::FileDescriptorSet& files,
    const std::vector<std::string>& golden);

}  // namespace latticed
