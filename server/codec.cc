#include "server/codec.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "grpcpp/support/slice.h"
#include "latticed/build_id.h"
#include "server/errors.h"

namespace latticed {
namespace {

void AppendVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

void AppendTag(int number, size_t size, std::string* out) {
  AppendVarint(static_cast<uint64_t>(number) << 3 | 2, out);
  AppendVarint(size, out);
}

grpc::Slice Refer(absl::string_view bytes,
                  const std::shared_ptr<BlockMemory>& owner) {
  return grpc::Slice(
      const_cast<char*>(bytes.data()), bytes.size(),
      [](void* held) {
        delete static_cast<std::shared_ptr<BlockMemory>*>(held);
      },
      new std::shared_ptr<BlockMemory>(owner));
}

}  // namespace

v1::Provenance MakeProvenance(const ServedVersion& version,
                              const StreamId& stream, uint64_t first_index) {
  v1::Provenance provenance;
  provenance.set_model(version.model);
  provenance.set_version(version.version);
  provenance.set_digest(version.digest);
  *provenance.mutable_action() = version.manifest.spec().action();
  *provenance.mutable_lattice() = version.manifest.spec().lattice();
  provenance.set_numerics_mode(version.numerics_mode);
  provenance.set_stream_id(stream.Bytes());
  provenance.set_first_index(first_index);
  provenance.set_server_build(kBuildId);
  provenance.set_log_q_error_rms(
      version.manifest.quality().step_doubling_rms());
  provenance.set_log_q_error_max(
      version.manifest.quality().step_doubling_max());
  return provenance;
}

v1::WeightSummary MakeSummary(const WeightSums& sums) {
  v1::WeightSummary summary;
  summary.set_draws(sums.draws());
  summary.set_non_finite(sums.non_finite());
  summary.set_log_w_max(sums.log_w_max());
  summary.set_sum_w(sums.sum_w());
  summary.set_sum_w2(sums.sum_w2());
  summary.set_ess(sums.Ess());
  return summary;
}

BlockFigures Compact(const Block& block) {
  BlockFigures figures;
  const absl::Span<double> log_q = block.log_q();
  const absl::Span<double> action = block.action();
  const absl::Span<float> phi = block.phi();
  const size_t sites = static_cast<size_t>(block.version->lattice.Sites());
  size_t kept = 0;
  for (size_t i = 0; i < static_cast<size_t>(block.count); ++i) {
    const bool finite_q = std::isfinite(log_q[i]);
    // A phi that is not finite has an action that is not.
    const bool finite_s = std::isfinite(action[i]);
    if (!finite_q || !finite_s) {
      figures.non_finite.push_back(static_cast<uint32_t>(i));
      figures.non_finite_log_q += finite_q ? 0 : 1;
      figures.non_finite_action += finite_s ? 0 : 1;
      // Whatever is wrong with it, its weight counts as not a number.
      figures.sums.Add(std::nan(""));
      continue;
    }
    figures.sums.Add(-action[i] - log_q[i]);
    if (kept != i) {
      log_q[kept] = log_q[i];
      action[kept] = action[i];
      if (block.has_phi) {
        std::copy_n(&phi[i * sites], sites, &phi[kept * sites]);
      }
    }
    ++kept;
  }
  figures.kept = static_cast<int64_t>(kept);
  return figures;
}

Payloads PayloadsOf(const Block& block, int64_t kept,
                    const BlockContent& content) {
  const size_t n = static_cast<size_t>(kept);
  const size_t sites = static_cast<size_t>(block.version->lattice.Sites());
  Payloads payloads;
  if (content.log_q) payloads.log_q = BytesOf(block.log_q().first(n));
  if (content.action) payloads.action = BytesOf(block.action().first(n));
  if (content.phi) payloads.phi = BytesOf(block.phi().first(n * sites));
  return payloads;
}

v1::SampleBlock MakeSampleBlock(const Block& block, const BlockFigures& figures,
                                const Payloads& payloads) {
  v1::SampleBlock message;
  message.set_first_index(block.first_index);
  message.set_count(static_cast<uint32_t>(block.count));
  message.set_crc32c(
      BlockCrc32c(payloads.log_q, payloads.action, payloads.phi));
  for (const uint32_t offset : figures.non_finite) {
    message.add_non_finite(offset);
  }
  message.set_digest_prefix(block.version->digest_prefix);
  return message;
}

grpc::ByteBuffer EncodeBlock(const google::protobuf::MessageLite& block,
                             absl::Span<const PayloadField> payloads,
                             const std::shared_ptr<BlockMemory>& owner) {
  const std::string fields = block.SerializeAsString();
  std::vector<std::string> heads;
  size_t size = fields.size();
  for (const PayloadField& payload : payloads) {
    const size_t bytes = payload.copied.size() + payload.referenced.size();
    std::string head;
    if (bytes > 0) AppendTag(payload.number, bytes, &head);
    size += head.size() + bytes;
    head.append(payload.copied.data(), payload.copied.size());
    heads.push_back(std::move(head));
  }
  std::string start;
  AppendTag(15, size, &start);
  start += fields;
  std::vector<grpc::Slice> slices;
  for (size_t i = 0; i < payloads.size(); ++i) {
    start += heads[i];
    if (payloads[i].referenced.empty()) continue;
    slices.emplace_back(start);
    slices.push_back(Refer(payloads[i].referenced, owner));
    start.clear();
  }
  if (!start.empty()) slices.emplace_back(start);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

grpc::Status CheckSize(size_t bytes, size_t bytes_max) {
  if (bytes <= bytes_max) return grpc::Status::OK;
  return Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE",
               absl::StrCat("the request has ", bytes, " bytes; allowed are ",
                            bytes_max, ", so ask for less at a time"));
}

grpc::Status Decode(const grpc::ByteBuffer& bytes,
                    google::protobuf::MessageLite* message, size_t bytes_max) {
  grpc::Status size = CheckSize(bytes.Length(), bytes_max);
  if (!size.ok()) return size;
  std::vector<grpc::Slice> slices;
  std::string flat;
  bool ok = bytes.Valid() && bytes.Dump(&slices).ok();
  for (const grpc::Slice& slice : slices) {
    flat.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  ok = ok && message->ParseFromString(flat);
  if (ok) return grpc::Status::OK;
  return Error(grpc::StatusCode::INVALID_ARGUMENT, "MALFORMED_REQUEST",
               "the request is no " + message->GetTypeName() +
                   "; generate the client from this server's .proto files");
}

}  // namespace latticed
