// What requests have in common, checked once at the edge: an error names the
// field, what is allowed and what to try.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "core/random/stream.h"
#include "core/theory/phi4.h"
#include "core/wire/block.h"
#include "google/protobuf/repeated_field.h"
#include "grpcpp/support/status.h"
#include "latticed/v1/sampler.pb.h"
#include "server/flow_store.h"
#include "server/served_version.h"

namespace latticed {

// Couplings of an action in the program's convention, to compare actions by.
using CouplingsOf =
    std::function<absl::StatusOr<Phi4Couplings>(const v1::Action&)>;

// The loaded version a selector means. NOT_FOUND, FAILED_PRECONDITION for one
// that is known but not loaded, UNAVAILABLE if nothing is live.
grpc::Status SelectVersion(const FlowStore& store,
                           const v1::ModelSelector& selector,
                           VersionRef* version);

// "phi4-l8 version 2 (0123456789ab), ...", for messages.
std::string LiveVersions(const FlowStore& store);

// A named stream, a given one, or a fresh one.
grpc::Status SelectStream(bool has_stream, const v1::RngStream& stream,
                          StreamId* id);

// Empty means everything.
grpc::Status SelectContent(const google::protobuf::RepeatedField<int>& content,
                           BlockContent* selected);

// Guards: FAILED_PRECONDITION with both values. Null means none.
grpc::Status CheckExpected(const ServedVersion& version,
                           const v1::Action* action, const v1::Lattice* lattice,
                           const CouplingsOf& couplings);

// 1 <= count <= count_max, first_index + count <= 2^64.
grpc::Status CheckRange(absl::string_view field, uint64_t first_index,
                        uint64_t count, uint64_t count_max);

// Draws per block: whole tiles where they fit.
int64_t BlockDraws(const ServedVersion& version, const BlockContent& content,
                   uint32_t block_bytes_max);

// "ipv4:127.0.0.1" of "ipv4:127.0.0.1:41234": a client, not a connection.
std::string PeerOf(const std::string& peer);

}  // namespace latticed
