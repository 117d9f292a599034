#include "server/chain_update.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/errors.h"

namespace latticed {
namespace {

constexpr uint32_t kIntervalMax = uint32_t{1} << 20;
constexpr uint32_t kRepeatsMax = 1000;
constexpr uint32_t kHmcStepsMax = 1000;
// Of all chains of a call at a time: this much holds a reply thread for up to
// 80 ms.
constexpr int64_t kSiteUpdatesMax = int64_t{1} << 20;

}  // namespace

grpc::Status UpdateAction(const ServedVersion& version,
                          const CouplingsOf& couplings,
                          std::optional<Phi4>* action) {
  const absl::StatusOr<Phi4Couplings> values =
      couplings ? couplings(version.manifest.spec().action())
                : absl::UnimplementedError("no action is known");
  if (!values.ok()) {
    return Error(grpc::StatusCode::FAILED_PRECONDITION, "NO_UPDATE",
                 absl::StrCat("chain.update: there is none for the action of ",
                              version.Name(), " (", values.status().message(),
                              "); leave the update out"));
  }
  action->emplace(version.lattice, *values);
  return grpc::Status::OK;
}

grpc::Status SelectUpdate(const v1::ChainUpdate& update, size_t chains,
                          const Phi4& action, ChainState* state) {
  if (update.interval() < 1 || update.interval() > kIntervalMax) {
    return InvalidField("chain.update.interval",
                        absl::StrCat("is ", update.interval(),
                                     "; an update comes once in 1 to ",
                                     kIntervalMax, " steps"));
  }
  state->update_interval = update.interval();
  state->update.repeats = update.repeats() == 0 ? 1 : update.repeats();
  if (state->update.repeats > kRepeatsMax) {
    return InvalidField("chain.update.repeats",
                        absl::StrCat("is ", update.repeats(),
                                     "; allowed are 1 to ", kRepeatsMax));
  }
  double scale = 0;
  uint32_t steps = 1;
  switch (update.kind_case()) {
    case v1::ChainUpdate::kCluster:
      state->update.kind = ConfigurationUpdate::Kind::kCluster;
      scale = update.cluster().width();
      state->update.scale =
          scale == 0 ? ClusterWidth(action.couplings()) : scale;
      break;
    case v1::ChainUpdate::kHmc:
      state->update.kind = ConfigurationUpdate::Kind::kHmc;
      scale = update.hmc().length();
      if (scale != 0) state->update.scale = scale;
      if (update.hmc().steps() != 0) {
        state->update.hmc_steps = update.hmc().steps();
      }
      steps = state->update.hmc_steps;
      if (steps > kHmcStepsMax) {
        return InvalidField(
            "chain.update.hmc.steps",
            absl::StrCat("is ", steps, "; allowed are 1 to ", kHmcStepsMax));
      }
      break;
    case v1::ChainUpdate::KIND_NOT_SET:
      return InvalidField("chain.update.kind", "is required: cluster or hmc");
  }
  if (!(scale >= 0) || scale > 1e6) {
    const bool hmc = update.has_hmc();
    return InvalidField(
        hmc ? "chain.update.hmc.length" : "chain.update.cluster.width",
        absl::StrCat("is ", scale, "; allowed are 0 to 1e6, 0 for ",
                     hmc ? 1.0 : ClusterWidth(action.couplings())));
  }
  const int64_t sites = action.lattice().Sites();
  if (static_cast<int64_t>(chains) * sites * steps * state->update.repeats >
      kSiteUpdatesMax) {
    return InvalidField(
        state->update.repeats > 1 ? "chain.update.repeats"
                                  : "chain.update.hmc.steps",
        absl::StrCat(
            "is ", state->update.repeats > 1 ? state->update.repeats : steps,
            ": ", chains, " chains * ", sites, " sites * ", steps, " steps * ",
            state->update.repeats, " repeats are more than ", kSiteUpdatesMax,
            " site updates at a time; ask for less, more often"));
  }
  const size_t phi_bytes = static_cast<size_t>(sites) * sizeof(float);
  if (chains * phi_bytes > kTokenPhiBytesMax) {
    return InvalidField(
        "chain.chains",
        absl::StrCat("is ", chains,
                     ", but a token carries the configurations "
                     "of chains with an update, and has room for ",
                     kTokenPhiBytesMax / phi_bytes, " on ",
                     action.lattice().Name(), "; make several calls"));
  }
  return grpc::Status::OK;
}

v1::ChainUpdate UpdateMessage(const ChainState& state) {
  v1::ChainUpdate message;
  message.set_interval(state.update_interval);
  message.set_repeats(state.update.repeats);
  if (state.update.kind == ConfigurationUpdate::Kind::kHmc) {
    message.mutable_hmc()->set_length(state.update.scale);
    message.mutable_hmc()->set_steps(state.update.hmc_steps);
  } else {
    message.mutable_cluster()->set_width(state.update.scale);
  }
  return message;
}

}  // namespace latticed
