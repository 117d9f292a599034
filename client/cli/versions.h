// Versions of models as people and programs read them.
#pragma once

#include <string>
#include <vector>

#include "latticed/v1/model.pb.h"

namespace latticed {

std::string StateName(v1::VersionState state);  // "LIVE"
std::string VersionsTable(const std::vector<v1::ModelVersion>& versions);
std::string VersionsJson(const std::vector<v1::ModelVersion>& versions);

}  // namespace latticed
