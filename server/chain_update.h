// Updates between the steps of a chain, as requests ask for them.
#pragma once

#include <optional>

#include "grpcpp/support/status.h"
#include "latticed/v1/chain.pb.h"
#include "server/requests.h"
#include "server/tokens.h"

namespace latticed {

// The action that updates of this version's configurations leave invariant.
// FAILED_PRECONDITION if there are none for it.
grpc::Status UpdateAction(const ServedVersion& version,
                          const CouplingsOf& couplings,
                          std::optional<Phi4>* action);

// Checks the update of a call with `chains` chains, fills in its defaults and
// enters it into `state`.
grpc::Status SelectUpdate(const v1::ChainUpdate& update, size_t chains,
                          const Phi4& action, ChainState* state);

// Requires an update.
v1::ChainUpdate UpdateMessage(const ChainState& state);

}  // namespace latticed
