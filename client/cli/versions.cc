#include "client/cli/versions.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/format.h"
#include "client/cli/json.h"

namespace latticed {

std::string StateName(v1::VersionState state) {
  const std::string name = v1::VersionState_Name(state);
  return name.substr(std::string("VERSION_STATE_").size());
}

std::string VersionsTable(const std::vector<v1::ModelVersion>& versions) {
  std::vector<std::vector<std::string>> rows = {{"model", "version", "state",
                                                 "published ESS", "gate ESS",
                                                 "digest", "reason"}};
  for (const v1::ModelVersion& version : versions) {
    const auto ess = [](bool has, double value) {
      return has ? absl::StrFormat("%.4f", value) : std::string("-");
    };
    rows.push_back(
        {version.model(), absl::StrCat(version.version()),
         StateName(version.state()),
         ess(version.has_manifest(), version.manifest().quality().ess()),
         ess(version.gate().has_ess(), version.gate().ess().value()),
         version.digest(), version.reason()});
  }
  return FormatTable(rows, /*right=*/{1, 3, 4});
}

std::string VersionsJson(const std::vector<v1::ModelVersion>& versions) {
  JsonWriter json;
  json.BeginObject().Key("versions").BeginArray();
  for (const v1::ModelVersion& version : versions) {
    json.BeginObject();
    json.Key("model").String(version.model());
    json.Key("version").Integer(static_cast<uint64_t>(version.version()));
    json.Key("state").String(StateName(version.state()));
    json.Key("digest").String(version.digest());
    json.Key("reason").String(version.reason());
    if (version.has_gate()) {
      const v1::GateReport& gate = version.gate();
      json.Key("gate").BeginObject();
      json.Key("passed").Bool(gate.passed());
      json.Key("draws").Integer(gate.draws());
      json.Key("seconds").Number(gate.seconds());
      json.Key("ess").Number(gate.ess().value());
      json.Key("ess_error").Number(gate.ess().error());
      json.Key("checks").BeginArray();
      for (const v1::GateCheck& check : gate.checks()) {
        json.BeginObject();
        json.Key("name").String(check.name());
        json.Key("passed").Bool(check.passed());
        json.Key("value").Number(check.value());
        json.Key("bound").Number(check.bound());
        json.Key("detail").String(check.detail());
        json.EndObject();
      }
      json.EndArray();
      json.Key("warnings").BeginArray();
      for (const std::string& warning : gate.warnings()) json.String(warning);
      json.EndArray().EndObject();
    }
    json.EndObject();
  }
  json.EndArray().EndObject();
  return absl::StrCat(json.text(), "\n");
}

}  // namespace latticed
