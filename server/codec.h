// From drawn blocks to messages. The large payloads of a block stay where they
// were drawn: the message refers to them, and they are freed when the transport
// has sent them. Pure but for the memory it hands on.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/random/stream.h"
#include "core/stats/log_weights.h"
#include "core/wire/block.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/status.h"
#include "latticed/v1/sampler.pb.h"
#include "server/block.h"

namespace latticed {

v1::Provenance MakeProvenance(const ServedVersion& version,
                              const StreamId& stream, uint64_t first_index);
v1::WeightSummary MakeSummary(const WeightSums& sums);

// What a block came to. Draws whose log q or action is not finite are never
// sent: their offsets are listed here instead.
struct BlockFigures {
  std::vector<uint32_t> non_finite;
  int64_t non_finite_log_q = 0;
  int64_t non_finite_action = 0;
  WeightSums sums;
  int64_t kept = 0;  // finite draws
};
// Moves the finite draws of the block together, in place.
BlockFigures Compact(const Block& block);

// log_q, action and phi of the first `kept` draws that `content` asks for.
struct Payloads {
  absl::string_view log_q;
  absl::string_view action;
  absl::string_view phi;
};
Payloads PayloadsOf(const Block& block, int64_t kept,
                    const BlockContent& content);
// The fields of a SampleBlock but its payloads.
v1::SampleBlock MakeSampleBlock(const Block& block, const BlockFigures& figures,
                                const Payloads& payloads);

// A length-delimited field: `copied`, then `referenced`, which `owner` keeps
// alive. Left out when both are empty.
struct PayloadField {
  int number = 0;
  absl::string_view copied;
  absl::string_view referenced;
};
// Field 15 of a response, as blocks are: the set fields of `block`, then the
// payloads.
grpc::ByteBuffer EncodeBlock(const google::protobuf::MessageLite& block,
                             absl::Span<const PayloadField> payloads,
                             const std::shared_ptr<BlockMemory>& owner);
grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message);
inline constexpr int kRequestBytesMax = 64 << 10;
// INVALID_ARGUMENT for bytes that are no such message, RESOURCE_EXHAUSTED for
// too many of them.
grpc::Status Decode(const grpc::ByteBuffer& bytes,
                    google::protobuf::MessageLite* message,
                    size_t bytes_max = kRequestBytesMax);
grpc::Status CheckSize(size_t bytes, size_t bytes_max = kRequestBytesMax);

}  // namespace latticed
