#include "server/requests.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/checkpoint/repository.h"
#include "server/errors.h"

namespace latticed {
namespace {

using grpc::StatusCode;

// Bounded: the number of models is.
std::string Listed(const std::vector<std::string>& names) {
  return names.empty() ? "none" : absl::StrJoin(names, ", ");
}

grpc::Status NotLoaded(const FlowStore& store, const VersionRecord& record) {
  const VersionRef live = store.Live(record.model);
  const VersionRef previous = store.Previous(record.model);
  std::vector<std::string> loaded;
  for (const VersionRef& version : {live, previous}) {
    if (version != nullptr) loaded.push_back(version->Name());
  }
  const std::string state = v1::VersionState_Name(record.state);
  return Error(StatusCode::FAILED_PRECONDITION, "VERSION_RETIRED",
               absl::StrCat(record.model, " version ", record.version,
                            " is not loaded (", state.substr(14),
                            record.reason.empty() ? "" : ": ", record.reason,
                            "); loaded are ", Listed(loaded)))
      .With("model", record.model)
      .With("version", static_cast<uint64_t>(record.version))
      .With("state", state);
}

std::string Text(const v1::Action& action) { return action.ShortDebugString(); }

std::string Text(const v1::Lattice& lattice) {
  return absl::StrJoin(lattice.extent(), "x");
}

bool SameAction(const v1::Action& a, const v1::Action& b,
                const CouplingsOf& couplings) {
  if (a.SerializeAsString() == b.SerializeAsString()) return true;
  if (!couplings) return false;
  // Published conventions differ in form: compare what they come to.
  const auto left = couplings(a);
  const auto right = couplings(b);
  if (!left.ok() || !right.ok()) return false;
  const auto close = [](double x, double y) {
    return std::abs(x - y) <= 1e-12 * std::max({1.0, std::abs(x), std::abs(y)});
  };
  return close(left->mass_squared, right->mass_squared) &&
         close(left->lambda, right->lambda);
}

}  // namespace

std::string LiveVersions(const FlowStore& store) {
  std::vector<std::string> names;
  for (const VersionRef& live : store.AllLive()) names.push_back(live->Name());
  return Listed(names);
}

grpc::Status SelectVersion(const FlowStore& store,
                           const v1::ModelSelector& selector,
                           VersionRef* version) {
  const std::string& model = selector.model();
  const std::vector<std::string> models = store.Models();
  if (model.empty()) {
    return InvalidField(
        "model.model",
        absl::StrCat("is required; this server has ", Listed(models)));
  }
  if (!ValidModelName(model)) {
    return InvalidField("model.model",
                        absl::StrCat("must match [a-z][a-z0-9-]{0,62}; this "
                                     "server has ",
                                     Listed(models)));
  }
  if (!v1::VersionPolicy_IsValid(selector.policy())) {
    return InvalidField("model.policy", "is not PINNED (1) or FOLLOW (2)");
  }
  if (selector.policy() == v1::VERSION_POLICY_FOLLOW &&
      selector.selection_case() != v1::ModelSelector::SELECTION_NOT_SET) {
    return InvalidField("model.policy",
                        "FOLLOW draws from whatever is live: leave version, "
                        "digest and slot unset, or use PINNED");
  }
  if (!std::binary_search(models.begin(), models.end(), model)) {
    if (models.empty()) {
      return Error(StatusCode::UNAVAILABLE, "NO_LIVE_VERSION",
                   absl::StrCat("model ", model,
                                " is not there: the "
                                "repository is empty; publish a flow with "
                                "latticed-train"))
          .With("model", model)
          .RetryAfter(std::chrono::seconds(2));
    }
    return Error(StatusCode::NOT_FOUND, "MODEL_NOT_FOUND",
                 absl::StrCat("model ", model, " is unknown; this server has ",
                              Listed(models)))
        .With("model", model)
        .With("models", Listed(models));
  }

  const VersionRef live = store.Live(model);
  const VersionRef previous = store.Previous(model);
  const VersionRef candidate = store.Candidate(model);
  std::optional<VersionRecord> record;
  std::string wanted;
  switch (selector.selection_case()) {
    case v1::ModelSelector::SELECTION_NOT_SET:
      *version = live;
      break;
    case v1::ModelSelector::kSlot:
      switch (selector.slot()) {
        case v1::SLOT_UNSPECIFIED:
        case v1::SLOT_LIVE:
          *version = live;
          break;
        case v1::SLOT_PREVIOUS:
          *version = previous;
          wanted = "in slot PREVIOUS";
          break;
        case v1::SLOT_CANDIDATE:
          *version = candidate;
          wanted = "in slot CANDIDATE";
          break;
        default:
          return InvalidField("model.slot",
                              "is not LIVE (1), PREVIOUS (2) or "
                              "CANDIDATE (3)");
      }
      break;
    case v1::ModelSelector::kVersion:
    case v1::ModelSelector::kDigest: {
      const bool by_digest =
          selector.selection_case() == v1::ModelSelector::kDigest;
      const auto matches = [&](const VersionRef& ref) {
        return ref != nullptr &&
               (by_digest ? ref->digest == selector.digest()
                          : ref->version == selector.version());
      };
      *version = matches(live)        ? live
                 : matches(previous)  ? previous
                 : matches(candidate) ? candidate
                                      : nullptr;
      // Right after a start it may be the one that is on its way.
      if (*version == nullptr && !store.Starting(model)) {
        record = by_digest ? store.RecordByDigest(model, selector.digest())
                           : store.Record(model, selector.version());
        if (record) return NotLoaded(store, *record);
        wanted = by_digest ? absl::StrCat("with digest ",
                                          selector.digest().substr(0, 64))
                           : absl::StrCat(selector.version());
      }
      break;
    }
  }
  if (*version != nullptr) return grpc::Status::OK;
  if (wanted.empty()) {
    return Error(StatusCode::UNAVAILABLE, "NO_LIVE_VERSION",
                 absl::StrCat("model ", model,
                              " has no live version: it is "
                              "still loading, or none of those published "
                              "could be loaded; try again in a moment, "
                              "latticectl models says which"))
        .With("model", model)
        .RetryAfter(std::chrono::seconds(2));
  }
  return Error(StatusCode::NOT_FOUND, "VERSION_NOT_FOUND",
               absl::StrCat("model ", model, " has no version ", wanted,
                            "; live is ",
                            live == nullptr ? "none" : live->Name()))
      .With("model", model)
      .With("live", live == nullptr ? "" : live->digest);
}

grpc::Status SelectStream(bool has_stream, const v1::RngStream& stream,
                          StreamId* id) {
  if (!has_stream) {
    *id = FreshStream();
    return grpc::Status::OK;
  }
  switch (stream.kind_case()) {
    case v1::RngStream::kName:
      if (stream.name().empty() || stream.name().size() > 256) {
        return InvalidField("stream.name",
                            absl::StrCat("has ", stream.name().size(),
                                         " bytes; allowed are 1 to 256, or "
                                         "leave stream unset for a fresh "
                                         "one"));
      }
      *id = NamedStream(stream.name());
      return grpc::Status::OK;
    case v1::RngStream::kId:
      if (stream.id().size() != 12) {
        return InvalidField("stream.id",
                            absl::StrCat("has ", stream.id().size(),
                                         " bytes; it is the 12 bytes of a "
                                         "provenance's stream_id"));
      }
      *id = StreamId::FromBytes(stream.id());
      return grpc::Status::OK;
    case v1::RngStream::KIND_NOT_SET:
      break;
  }
  return InvalidField("stream",
                      "has neither name nor id; set one, or leave stream "
                      "unset for a fresh one");
}

grpc::Status SelectContent(const google::protobuf::RepeatedField<int>& content,
                           BlockContent* selected) {
  if (content.empty()) {
    *selected = BlockContent();
    return grpc::Status::OK;
  }
  *selected = {.phi = false, .log_q = false, .action = false};
  for (const int item : content) {
    switch (item) {
      case v1::CONTENT_PHI:
        selected->phi = true;
        break;
      case v1::CONTENT_LOG_Q:
        selected->log_q = true;
        break;
      case v1::CONTENT_ACTION:
        selected->action = true;
        break;
      default:
        return InvalidField("content",
                            absl::StrCat("has ", item,
                                         "; allowed are PHI "
                                         "(1), LOG_Q (2) and ACTION (3), or "
                                         "nothing for all of them"));
    }
  }
  return grpc::Status::OK;
}

grpc::Status CheckExpected(const ServedVersion& version,
                           const v1::Action* action, const v1::Lattice* lattice,
                           const CouplingsOf& couplings) {
  const v1::ModelSpec& spec = version.manifest.spec();
  if (lattice != nullptr && Text(*lattice) != version.lattice.Name()) {
    return Error(StatusCode::FAILED_PRECONDITION, "LATTICE_MISMATCH",
                 absl::StrCat("expected_lattice is ", Text(*lattice), " but ",
                              version.Name(), " is on ", version.lattice.Name(),
                              "; draw from a model on your lattice, or drop "
                              "the guard"))
        .With("expected", Text(*lattice))
        .With("actual", version.lattice.Name());
  }
  if (action != nullptr && !SameAction(*action, spec.action(), couplings)) {
    return Error(StatusCode::FAILED_PRECONDITION, "ACTION_MISMATCH",
                 absl::StrCat("expected_action is {", Text(*action), "} but ",
                              version.Name(), " has {", Text(spec.action()),
                              "}; draw from a model of your action, or drop "
                              "the guard"))
        .With("expected", Text(*action))
        .With("actual", Text(spec.action()));
  }
  return grpc::Status::OK;
}

grpc::Status CheckRange(absl::string_view field, uint64_t first_index,
                        uint64_t count, uint64_t count_max) {
  if (count == 0 || count > count_max) {
    return InvalidField(
        field, absl::StrCat("is ", count, "; allowed are 1 to ", count_max,
                            count == 0 ? ", so ask for at least one"
                                       : ", so ask in several calls "
                                         "with first_index"));
  }
  // first_index + count <= 2^64, without overflow.
  if (first_index > 0 && count - 1 > UINT64_MAX - first_index) {
    return Error(StatusCode::OUT_OF_RANGE, "INDEX_OUT_OF_RANGE",
                 absl::StrCat("first_index ", first_index, " + ", field, " ",
                              count,
                              " is beyond 2^64, where a stream ends; "
                              "start a new stream"))
        .With("first_index", first_index)
        .With(field, count)
        .Field("first_index", "first_index + count must be at most 2^64");
  }
  return grpc::Status::OK;
}

int64_t BlockDraws(const ServedVersion& version, const BlockContent& content,
                   uint32_t block_bytes_max) {
  // Without phi a block could take minutes to fill: it stays a progress report.
  constexpr int64_t kDrawsMax = 8192;
  const int64_t draws = std::min(
      kDrawsMax, ConfigurationsPerBlock(version.lattice.Sites(), content,
                                        CoerceBlockBytes(block_bytes_max)));
  return draws < version.tile ? draws : draws / version.tile * version.tile;
}

std::string PeerOf(const std::string& peer) {
  const bool address =
      absl::StartsWith(peer, "ipv4:") || absl::StartsWith(peer, "ipv6:");
  return address ? peer.substr(0, peer.rfind(':')) : peer;
}

}  // namespace latticed
