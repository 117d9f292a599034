#include "core/random/stream.h"

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/random/philox.h"
#include "core/wire/digest.h"

namespace latticed {
namespace {

constexpr uint32_t kNamedBit = uint32_t{1} << 31;  // bit 95 of the id

static_assert(std::endian::native == std::endian::little,
              "stream ids are little-endian: this port needs byte swaps");

}  // namespace

std::string StreamId::Bytes() const {
  std::string bytes(12, '\0');
  std::memcpy(bytes.data(), &low, 8);
  std::memcpy(bytes.data() + 8, &high, 4);
  return bytes;
}

std::string StreamId::Hex() const { return absl::BytesToHexString(Bytes()); }

StreamId StreamId::FromBytes(absl::string_view bytes) {
  if (bytes.size() != 12) {
    std::fprintf(stderr, "a stream id has 12 bytes, not %zu\n", bytes.size());
    std::abort();
  }
  StreamId id;
  std::memcpy(&id.low, bytes.data(), 8);
  std::memcpy(&id.high, bytes.data() + 8, 4);
  return id;
}

StreamId NamedStream(absl::string_view name) {
  // The prefix keeps its zero byte.
  constexpr absl::string_view kPrefix("latticed stream\0", 16);
  const std::string digest = Sha256(absl::StrCat(kPrefix, name));
  StreamId id = StreamId::FromBytes(digest.substr(0, 12));
  id.high |= kNamedBit;
  return id;
}

StreamId FreshStream() {
  StreamId id = StreamId::FromBytes(RandomBytes(12));
  id.high &= ~kNamedBit;
  return id;
}

std::array<uint32_t, 4> RandomBlock(const StreamId& stream, uint64_t index,
                                    Purpose purpose, uint32_t block) {
  return Philox4x32({static_cast<uint32_t>(purpose) << 24 | block,
                     static_cast<uint32_t>(index),
                     static_cast<uint32_t>(index >> 32), stream.high},
                    {static_cast<uint32_t>(stream.low),
                     static_cast<uint32_t>(stream.low >> 32)});
}

double Uniform(const StreamId& stream, uint64_t index, Purpose purpose) {
  const std::array<uint32_t, 4> w = RandomBlock(stream, index, purpose, 0);
  const uint64_t bits = (uint64_t{w[1]} << 32 | w[0]) >> 11;
  return static_cast<double>(bits + 1) * 0x1p-53;
}

}  // namespace latticed
