#include "client/block.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"

namespace latticed {
namespace {

// Copies a payload into an array of exactly `size` elements; none if the
// request left it out.
template <typename T>
absl::Status Copy(const std::string& bytes, uint64_t size, bool wanted,
                  absl::string_view name, std::vector<T>* out) {
  out->resize(wanted ? size : 0);
  if (FromBytes(bytes, absl::MakeSpan(*out))) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("malformed block: ", name, " has ", bytes.size(),
                   " bytes where ", out->size() * sizeof(T), " are expected"));
}

template <typename Message>
absl::Status CheckCrc(const Message& message) {
  const uint32_t crc =
      BlockCrc32c(message.log_q(), message.action(), message.phi());
  if (crc == message.crc32c()) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat(
      "a block arrived damaged: its CRC32C is %08x, the server computed %08x",
      crc, message.crc32c()));
}

template <typename Message, typename Block>
absl::Status CopyPayload(const Message& message, const BlockShape& shape,
                         uint64_t rows, Block* block) {
  if (absl::Status s = Copy(message.log_q(), rows, shape.content.log_q, "log_q",
                            &block->log_q);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = Copy(message.action(), rows, shape.content.action,
                            "action", &block->action);
      !s.ok()) {
    return s;
  }
  return Copy(message.phi(), rows * shape.sites, shape.content.phi, "phi",
              &block->phi);
}

// A chain has no configuration, and keeps none, before its first accepted
// step, which comes late if the first proposals are not finite.
absl::Status DropUnstarted(uint64_t sent, StepBlock* block) {
  const uint64_t kept = block->kept_step.size();
  if (sent == kept) return absl::OkStatus();
  bool unstarted = sent < kept;
  for (uint64_t i = 0; unstarted && i < block->steps; ++i) {
    if (block->first_step + i > block->kept_step[kept - sent - 1]) break;
    unstarted = !block->accept[i];
  }
  if (!unstarted) {
    return absl::InternalError(
        absl::StrCat("malformed block: ", sent,
                     " kept configurations where the thinning keeps ", kept));
  }
  block->kept_step.erase(block->kept_step.begin(),
                         block->kept_step.begin() + (kept - sent));
  return absl::OkStatus();
}

}  // namespace

BlockShape MakeShape(const v1::Lattice& lattice,
                     const google::protobuf::RepeatedField<int>& content) {
  BlockShape shape{.sites = 1};
  for (uint32_t extent : lattice.extent()) shape.sites *= extent;
  if (content.empty()) return shape;
  shape.content = {.phi = false, .log_q = false, .action = false};
  for (int c : content) {
    shape.content.phi |= c == v1::CONTENT_PHI;
    shape.content.log_q |= c == v1::CONTENT_LOG_Q;
    shape.content.action |= c == v1::CONTENT_ACTION;
  }
  return shape;
}

absl::Status Decode(const v1::SampleBlock& message, const BlockShape& shape,
                    DrawBlock* block) {
  if (absl::Status s = CheckCrc(message); !s.ok()) return s;
  int64_t previous = -1;
  for (uint32_t offset : message.non_finite()) {
    if (offset >= message.count() || offset <= previous) {
      return absl::InternalError(
          absl::StrCat("malformed block: non_finite offset ", offset,
                       " is out of order or beyond the block's ",
                       message.count(), " draws"));
    }
    previous = offset;
  }
  block->first_index = message.first_index();
  block->count = message.count();
  block->non_finite.assign(message.non_finite().begin(),
                           message.non_finite().end());
  return CopyPayload(message, shape, block->size(), block);
}

absl::Status Decode(const v1::ChainBlock& message, const BlockShape& shape,
                    uint32_t thinning, StepBlock* block) {
  if (absl::Status s = CheckCrc(message); !s.ok()) return s;
  block->first_step = message.first_step();
  block->steps = message.steps();
  block->accepted = message.accepted();
  block->non_finite = message.non_finite();
  if (message.accept().size() != (block->steps + 7) / 8) {
    return absl::InternalError(
        absl::StrCat("malformed block: accept has ", message.accept().size(),
                     " bytes for ", block->steps, " steps"));
  }
  block->accept.resize(block->steps);
  uint64_t accepted = 0;
  for (uint64_t i = 0; i < block->steps; ++i) {
    block->accept[i] =
        (static_cast<uint8_t>(message.accept()[i / 8]) >> (i % 8)) & 1;
    accepted += block->accept[i];
  }
  if (accepted != block->accepted) {
    return absl::InternalError(absl::StrCat(
        "malformed block: ", accepted, " accept bits are set where ",
        block->accepted, " accepted steps are claimed"));
  }

  block->kept_step.clear();
  const uint64_t n = thinning == 0 ? 1 : thinning;
  const uint64_t end = block->first_step + block->steps;
  for (uint64_t t = (block->first_step + n - 1) / n * n; t < end; t += n) {
    block->kept_step.push_back(t);
  }
  const uint64_t rows = message.index_size();
  if (absl::Status s = DropUnstarted(message.row_size(), block); !s.ok())
    return s;
  for (uint32_t row : message.row()) {
    if (row >= rows) {
      return absl::InternalError(
          absl::StrCat("malformed block: row ", row, " of ", rows));
    }
  }
  block->row.assign(message.row().begin(), message.row().end());
  block->index.assign(message.index().begin(), message.index().end());
  if (message.updates_size() != 0 &&
      message.updates_size() != message.index_size()) {
    return absl::InternalError(
        absl::StrCat("malformed block: ", message.updates_size(),
                     " counts of updates for ", rows, " rows"));
  }
  block->updates.assign(message.updates().begin(), message.updates().end());
  block->token = message.token();
  return CopyPayload(message, shape, rows, block);
}

}  // namespace latticed
