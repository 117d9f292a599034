#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/admin.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/messages.h"
#include "client/cli/run.h"
#include "client/cli/versions.h"

namespace latticed {
namespace {

int Failed(const absl::Status& status) {
  PrintError(status);
  return ExitCodeOf(status);
}

int PrintVersions(const CommandOptions& options,
                  const std::vector<v1::ModelVersion>& versions) {
  std::fputs(options.json ? VersionsJson(versions).c_str()
                          : VersionsTable(versions).c_str(),
             stdout);
  return kExitOk;
}

int PrintInfo(const CommandOptions& options,
              const v1::GetServerInfoResponse& info) {
  const std::map<std::string, std::string> config(info.config().begin(),
                                                  info.config().end());
  if (options.json) {
    JsonWriter json;
    json.BeginObject();
    json.Key("build").String(info.build());
    json.Key("device").String(info.device());
    json.Key("numerics_mode").String(info.numerics_mode());
    json.Key("uptime_seconds").Number(info.uptime_seconds());
    json.Key("config").BeginObject();
    for (const auto& [flag, value] : config) json.Key(flag).String(value);
    json.EndObject().EndObject();
    std::printf("%s\n", json.text().c_str());
    return kExitOk;
  }
  std::printf("latticed %s on %s, up %s\n", info.build().c_str(),
              info.device().c_str(),
              FormatSeconds(info.uptime_seconds()).c_str());
  for (const auto& [flag, value] : config) {
    std::printf("  --%s=%s\n", flag.c_str(), value.c_str());
  }
  return kExitOk;
}

}  // namespace

int RunAdmin(const CommandOptions& options, const Interrupt& interrupt) {
  const auto client = ConnectFor(options, interrupt, nullptr);
  if (!client.ok()) {
    PrintError(client.status());
    return kExitUsage;
  }
  AdminClient admin = (*client)->Admin();
  const std::string& action = options.input;
  const std::string& model = options.model;
  if (action == "info") {
    const auto info = admin.Info();
    return info.ok() ? PrintInfo(options, *info) : Failed(info.status());
  }
  if (action == "drain") {
    const absl::Status asked = admin.Drain();
    return asked.ok() ? kExitOk : Failed(asked);
  }
  if (action == "refresh") {
    const auto versions = admin.Refresh(model);
    return versions.ok() ? PrintVersions(options, *versions)
                         : Failed(versions.status());
  }
  const auto version =
      action == "promote"    ? admin.Promote(model, options.digest)
      : action == "rollback" ? admin.Rollback(model, options.reason)
      : action == "quarantine"
          ? admin.Quarantine(model, options.digest, options.reason)
          : admin.Unquarantine(model, options.digest);
  return version.ok() ? PrintVersions(options, {*version})
                      : Failed(version.status());
}

}  // namespace latticed
