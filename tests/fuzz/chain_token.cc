// Chain tokens: only what was sealed under the key opens, and then it is what
// was sealed.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/wire/digest.h"
#include "server/tokens.h"

namespace {

using latticed::ChainState;

const std::string kKey = "a key of the fuzz target";

template <typename T>
T Take(const uint8_t** data, size_t* size) {
  T value{};
  const size_t count = std::min(sizeof value, *size);
  std::memcpy(&value, *data, count);
  *data += count;
  *size -= count;
  return value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  ChainState opened;
  // Nobody without the key makes one.
  if (latticed::OpenToken(kKey, bytes, &opened)) std::abort();

  ChainState state;
  state.digest = latticed::Sha256Hex(bytes);
  state.thinning = Take<uint32_t>(&data, &size);
  const uint8_t flags = Take<uint8_t>(&data, &size);
  state.content = {.phi = (flags & 1) != 0,
                   .log_q = (flags & 2) != 0,
                   .action = (flags & 4) != 0};
  state.started = (flags & 8) != 0;
  for (uint64_t* field :
       {&state.step, &state.index, &state.accepted, &state.non_finite,
        &state.rejection_run, &state.longest_rejection_run}) {
    *field = Take<uint64_t>(&data, &size);
  }
  state.log_w = Take<double>(&data, &size);
  std::string token = latticed::SealToken(kKey, state);
  const bool open = latticed::OpenToken(kKey, token, &opened);
  if (open != (state.thinning > 0)) std::abort();
  if (open && latticed::SealToken(kKey, opened) != token) std::abort();
  if (latticed::OpenToken("another key of this target", token, &opened)) {
    std::abort();
  }
  // Any change shows.
  const size_t at = Take<uint16_t>(&data, &size) % token.size();
  token[at] = static_cast<char>(token[at] ^ (1 << (flags >> 5)));
  if (latticed::OpenToken(kKey, token, &opened)) std::abort();
  return 0;
}
