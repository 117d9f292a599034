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

using latticed::ChainSet;
using latticed::ChainState;
using latticed::ConfigurationUpdate;

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

// Sealed with HMAC-SHA-256 as tokens are: what a holder of the key could send.
std::string SealBody(const std::string& body) {
  return body + latticed::HmacSha256(kKey, "latticed chain token" + body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  ChainSet opened;
  // Nobody without the key makes one.
  if (latticed::OpenToken(kKey, bytes, &opened)) std::abort();
  // Whatever is inside a good seal is read within its bounds, and what opens
  // is whole.
  const std::string sealed = SealBody(bytes);
  if (latticed::OpenToken(kKey, sealed, &opened)) {
    if (opened.empty() || opened.size() > latticed::kChainsMax) std::abort();
  }

  ChainState first;
  first.digest = latticed::Sha256Hex(bytes);
  first.thinning = Take<uint32_t>(&data, &size);
  const uint8_t flags = Take<uint8_t>(&data, &size);
  first.content = {.phi = (flags & 1) != 0,
                   .log_q = (flags & 2) != 0,
                   .action = (flags & 4) != 0};
  first.step = Take<uint64_t>(&data, &size);
  if ((flags & 16) != 0) {
    first.update.kind = (flags & 32) != 0 ? ConfigurationUpdate::Kind::kHmc
                                          : ConfigurationUpdate::Kind::kCluster;
    first.update_interval = 1 + Take<uint16_t>(&data, &size);
    first.update.repeats = Take<uint32_t>(&data, &size);
    first.update.scale = Take<double>(&data, &size);
  }
  ChainSet chains(1 + Take<uint8_t>(&data, &size) % latticed::kChainsMax,
                  first);
  const size_t sites = 1 + Take<uint8_t>(&data, &size);
  for (ChainState& chain : chains) {
    chain.started = (flags & 8) != 0;
    for (uint64_t* field : {&chain.index, &chain.accepted, &chain.non_finite,
                            &chain.rejection_run}) {
      *field = Take<uint64_t>(&data, &size);
    }
    chain.log_w = Take<double>(&data, &size);
    if (first.update_interval == 0) continue;
    chain.updates = Take<uint8_t>(&data, &size);
    if (chain.updates == 0) continue;
    chain.started = true;
    chain.phi.assign(sites, Take<float>(&data, &size));
  }
  std::string token = latticed::SealToken(kKey, chains);
  const bool open = latticed::OpenToken(kKey, token, &opened);
  if (open != (first.thinning > 0)) std::abort();
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
