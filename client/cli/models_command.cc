#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/messages.h"
#include "client/cli/run.h"
#include "client/cli/versions.h"

namespace latticed {
namespace {

// Why nothing of a model is live: its newest version and what became of it.
std::string WhyNothingIsLive(Client* client, const std::string& model) {
  const auto versions = client->ListModelVersions(model);
  if (!versions.ok() || versions->empty()) return "";
  const v1::ModelVersion& newest = versions->front();
  return absl::StrCat("version ", newest.version(), " is ",
                      StateName(newest.state()),
                      newest.reason().empty() ? "" : ": ", newest.reason());
}

std::string ModelsTable(const std::vector<v1::Model>& models) {
  std::vector<std::vector<std::string>> rows = {
      {"model", "version", "digest", "lattice", "action", "ESS", "acceptance",
       "sigma^2/site", "draws"}};
  for (const v1::Model& model : models) {
    if (!model.has_live()) {
      rows.push_back({model.model(), "-", "nothing live", "", "", "", "", "",
                      absl::StrCat(model.draws())});
      continue;
    }
    const v1::ModelVersion& live = model.live();
    const v1::Quality& quality = live.manifest().quality();
    const v1::ModelSpec& spec = live.manifest().spec();
    rows.push_back({model.model(), absl::StrCat(live.version()),
                    live.digest().substr(0, 12), FormatLattice(spec.lattice()),
                    FormatAction(spec.action()),
                    absl::StrFormat("%.4f", quality.ess()),
                    absl::StrFormat("%.4f", quality.acceptance()),
                    absl::StrFormat("%.1e", quality.sigma2_per_site()),
                    absl::StrCat(model.draws())});
  }
  return FormatTable(rows, /*right=*/{1, 5, 6, 7, 8});
}

std::string ModelsJson(const std::vector<v1::Model>& models) {
  JsonWriter json;
  json.BeginObject().Key("models").BeginArray();
  for (const v1::Model& model : models) {
    json.BeginObject();
    json.Key("model").String(model.model());
    json.Key("versions").Integer(model.versions());
    json.Key("draws").Integer(model.draws());
    if (model.has_live()) {
      const v1::ModelVersion& live = model.live();
      const v1::Quality& quality = live.manifest().quality();
      const v1::ModelSpec& spec = live.manifest().spec();
      json.Key("version").Integer(live.version());
      json.Key("state").String(StateName(live.state()));
      json.Key("digest").String(live.digest());
      json.Key("numerics_mode").String(live.numerics_mode());
      json.Key("lattice").String(FormatLattice(spec.lattice()));
      json.Key("action").String(FormatAction(spec.action()));
      json.Key("ess").Number(quality.ess());
      json.Key("ess_error").Number(quality.ess_error());
      json.Key("acceptance").Number(quality.acceptance());
      json.Key("sigma2_per_site").Number(quality.sigma2_per_site());
    }
    json.EndObject();
  }
  json.EndArray().EndObject();
  return absl::StrCat(json.text(), "\n");
}

}  // namespace

int RunModels(const CommandOptions& options, const Interrupt& interrupt) {
  const auto client = ConnectFor(options, interrupt, nullptr);
  if (!client.ok()) {
    PrintError(client.status());
    return kExitUsage;
  }
  const auto models = (*client)->ListModels();
  if (!models.ok()) {
    PrintError(models.status(), HintFor(models.status(), client->get()));
    return ExitCodeOf(models.status());
  }
  if (options.all) {
    std::vector<v1::ModelVersion> all;
    for (const v1::Model& model : *models) {
      const auto versions = (*client)->ListModelVersions(model.model());
      if (!versions.ok()) {
        PrintError(versions.status());
        return ExitCodeOf(versions.status());
      }
      all.insert(all.end(), versions->begin(), versions->end());
    }
    std::fputs(
        options.json ? VersionsJson(all).c_str() : VersionsTable(all).c_str(),
        stdout);
    return kExitOk;
  }
  std::fputs(
      options.json ? ModelsJson(*models).c_str() : ModelsTable(*models).c_str(),
      stdout);
  for (const v1::Model& model : *models) {
    if (model.has_live() || options.json) continue;
    std::printf("%s has no live version: %s\n", model.model().c_str(),
                WhyNothingIsLive(client->get(), model.model()).c_str());
  }
  return kExitOk;
}

}  // namespace latticed
