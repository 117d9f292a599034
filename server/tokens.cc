#include "server/tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/wire/digest.h"
#include "server/log.h"

namespace latticed {
namespace {

constexpr char kFormat = 3;
constexpr size_t kSealBytes = 32;
constexpr size_t kHeadBytes = 1 + 32 + 4 + 1 + 1 + 8;
constexpr size_t kUpdateBytes = 1 + 4 + 4 + 8 + 4 + 4;
constexpr size_t kChainBytes = 12 + 1 + 6 * 8;
// Bits of the head's flags, after those of the content.
constexpr uint64_t kHasUpdate = 8;
// Bits of a chain's flags.
constexpr uint64_t kStarted = 1;
constexpr uint64_t kHasPhi = 2;
constexpr int kKeyBytes = 32;

void Put(uint64_t value, int bytes, std::string* out) {
  for (int i = 0; i < bytes; ++i) {
    out->push_back(static_cast<char>(value >> (8 * i)));
  }
}

uint64_t Take(absl::string_view* in, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value |= static_cast<uint64_t>(static_cast<unsigned char>((*in)[i]))
             << (8 * i);
  }
  in->remove_prefix(static_cast<size_t>(bytes));
  return value;
}

// Of the parts that all chains share.
std::string HeadOf(const ChainSet& chains) {
  const ChainState& first = chains.front();
  const bool updated = first.update_interval > 0;
  std::string head(1, kFormat);
  head += absl::HexStringToBytes(first.digest);
  Put(first.thinning, 4, &head);
  Put((first.content.phi ? 1u : 0u) | (first.content.log_q ? 2u : 0u) |
          (first.content.action ? 4u : 0u) | (updated ? kHasUpdate : 0u),
      1, &head);
  Put(chains.size(), 1, &head);
  Put(first.step, 8, &head);
  if (!updated) return head;
  size_t sites = 0;
  for (const ChainState& chain : chains) {
    sites = std::max(sites, chain.phi.size());
  }
  Put(static_cast<uint64_t>(first.update.kind), 1, &head);
  Put(first.update_interval, 4, &head);
  Put(first.update.repeats, 4, &head);
  Put(std::bit_cast<uint64_t>(first.update.scale), 8, &head);
  Put(first.update.hmc_steps, 4, &head);
  Put(sites, 4, &head);
  return head;
}

void PutChain(const ChainState& chain, std::string* body) {
  *body += chain.stream.Bytes();
  Put((chain.started ? kStarted : 0) | (chain.phi.empty() ? 0 : kHasPhi), 1,
      body);
  Put(chain.index, 8, body);
  Put(std::bit_cast<uint64_t>(chain.log_w), 8, body);
  Put(chain.accepted, 8, body);
  Put(chain.non_finite, 8, body);
  Put(chain.rejection_run, 8, body);
  Put(chain.longest_rejection_run, 8, body);
  if (chain.update_interval == 0) return;
  Put(chain.updates, 8, body);
  for (const float x : chain.phi) Put(std::bit_cast<uint32_t>(x), 4, body);
}

// Takes what HeadOf made; false for a count of chains or a setting that it
// never makes.
bool TakeHead(absl::string_view* body, ChainState* head, size_t* count,
              size_t* sites) {
  body->remove_prefix(1);
  head->digest = absl::BytesToHexString(body->substr(0, 32));
  body->remove_prefix(32);
  head->thinning = static_cast<uint32_t>(Take(body, 4));
  const uint64_t flags = Take(body, 1);
  head->content = {.phi = (flags & 1) != 0,
                   .log_q = (flags & 2) != 0,
                   .action = (flags & 4) != 0};
  *count = Take(body, 1);
  head->step = Take(body, 8);
  *sites = 0;
  if (head->thinning == 0 || *count < 1 || *count > kChainsMax) return false;
  if ((flags & kHasUpdate) == 0) return true;
  if (body->size() < kUpdateBytes) return false;
  const uint64_t kind = Take(body, 1);
  head->update.kind = static_cast<ConfigurationUpdate::Kind>(kind);
  head->update_interval = static_cast<uint32_t>(Take(body, 4));
  head->update.repeats = static_cast<uint32_t>(Take(body, 4));
  head->update.scale = std::bit_cast<double>(Take(body, 8));
  head->update.hmc_steps = static_cast<uint32_t>(Take(body, 4));
  *sites = Take(body, 4);
  return (kind == 1 || kind == 2) && head->update_interval > 0 &&
         *sites <= kTokenPhiBytesMax / 4;
}

// False if the rest is too short for it.
bool TakeChain(absl::string_view* body, size_t sites, ChainState* chain) {
  const bool updated = chain->update_interval > 0;
  if (body->size() < kChainBytes + (updated ? 8 : 0)) return false;
  chain->stream = StreamId::FromBytes(body->substr(0, 12));
  body->remove_prefix(12);
  const uint64_t flags = Take(body, 1);
  chain->started = (flags & kStarted) != 0;
  chain->index = Take(body, 8);
  chain->log_w = std::bit_cast<double>(Take(body, 8));
  chain->accepted = Take(body, 8);
  chain->non_finite = Take(body, 8);
  chain->rejection_run = Take(body, 8);
  chain->longest_rejection_run = Take(body, 8);
  if (!updated) return true;
  chain->updates = Take(body, 8);
  // An updated configuration, and no other, is in the token.
  if ((chain->updates > 0) != ((flags & kHasPhi) != 0)) return false;
  if (chain->updates == 0) return true;
  if (!chain->started) return false;
  if (sites == 0 || body->size() < 4 * sites) return false;
  chain->phi.resize(sites);
  for (float& x : chain->phi) {
    x = std::bit_cast<float>(static_cast<uint32_t>(Take(body, 4)));
  }
  return true;
}

std::string Seal(const std::string& key, absl::string_view body) {
  return HmacSha256(key, absl::StrCat("latticed chain token", body));
}

absl::Status FileError(const std::string& path, const char* doing) {
  return absl::FailedPreconditionError(
      absl::StrCat("chain token key ", path, ": cannot ", doing,
                   " it: ", std::strerror(errno),
                   "; give --chain_token_key_file or --state_directory a "
                   "path that the server may use"));
}

absl::StatusOr<std::string> ReadKey(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return FileError(path, "open");
  struct stat info;
  std::string key(4096, '\0');
  const bool have_info = fstat(file, &info) == 0;
  const ssize_t size = read(file, key.data(), key.size());
  close(file);
  if (!have_info || size < 0) return FileError(path, "read");
  key.resize(static_cast<size_t>(size));
  if ((info.st_mode & 0007) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("chain token key ", path,
                     ": everyone on this machine may read it, so "
                     "anyone could forge tokens; chmod 600 it"));
  }
  if (key.size() < 16) {
    return absl::FailedPreconditionError(
        absl::StrCat("chain token key ", path, ": has ", key.size(),
                     " bytes; at least 16 "
                     "are needed, for example from head -c 32 /dev/urandom"));
  }
  return key;
}

// Another server may do the same at the same time: whoever links first wins.
absl::Status CreateKey(const std::string& path) {
  const std::string temporary =
      absl::StrCat(path, ".", absl::BytesToHexString(RandomBytes(8)));
  const int file =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return FileError(path, "create");
  const std::string key = RandomBytes(kKeyBytes);
  bool ok =
      write(file, key.data(), key.size()) == kKeyBytes && fsync(file) == 0;
  ok = close(file) == 0 && ok;
  ok = ok && (link(temporary.c_str(), path.c_str()) == 0 || errno == EEXIST);
  absl::Status status = ok ? absl::OkStatus() : FileError(path, "create");
  unlink(temporary.c_str());
  return status;
}

}  // namespace

std::string SealToken(const std::string& key, const ChainSet& chains) {
  std::string body = HeadOf(chains);
  for (const ChainState& chain : chains) PutChain(chain, &body);
  return body + Seal(key, body);
}

bool OpenToken(const std::string& key, absl::string_view token,
               ChainSet* chains) {
  if (token.size() < kHeadBytes + kChainBytes + kSealBytes ||
      token.size() > kTokenBytesMax || token[0] != kFormat) {
    return false;
  }
  absl::string_view body = token.substr(0, token.size() - kSealBytes);
  if (!ConstantTimeEqual(token.substr(body.size()), Seal(key, body))) {
    return false;
  }
  ChainState head;
  size_t count = 0;
  size_t sites = 0;
  if (!TakeHead(&body, &head, &count, &sites)) return false;
  chains->assign(count, head);
  for (ChainState& chain : *chains) {
    if (!TakeChain(&body, sites, &chain)) return false;
  }
  return body.empty();
}

StreamId StreamOfChain(const StreamId& first, uint32_t chain) {
  std::string name("latticed chain stream\0", 22);
  name += first.Bytes();
  Put(chain, 4, &name);
  StreamId id = StreamId::FromBytes(Sha256(name).substr(0, 12));
  constexpr uint32_t kNamed = uint32_t{1} << 31;  // bit 95
  id.high = (id.high & ~kNamed) | (first.high & kNamed);
  return id;
}

absl::StatusOr<std::string> LoadTokenKey(const Config& config) {
  if (!config.chain_token_key_file.empty()) {
    return ReadKey(config.chain_token_key_file);
  }
  if (config.state_directory.empty()) {
    Log(LogLevel::kWarning,
        "neither --chain_token_key_file nor --state_directory: tokens of "
        "chains will not outlive this process");
    return RandomBytes(kKeyBytes);
  }
  if (mkdir(config.state_directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--state_directory ", config.state_directory, ": cannot create it: ",
        std::strerror(errno), "; name a directory that the server may write"));
  }
  const std::string path =
      absl::StrCat(config.state_directory, "/chain-token.key");
  if (access(path.c_str(), F_OK) != 0) {
    const absl::Status created = CreateKey(path);
    if (!created.ok()) return created;
  }
  return ReadKey(path);
}

}  // namespace latticed
