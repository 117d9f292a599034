#include "server/tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/wire/digest.h"
#include "server/log.h"

namespace latticed {
namespace {

constexpr char kFormat = 1;
constexpr char kFormatSeveral = 2;
constexpr size_t kSeveralBytes = 3;
constexpr size_t kSealBytes = 32;
constexpr size_t kBodyBytes = 1 + 32 + 12 + 4 + 1 + 1 + 7 * 8;
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

std::string BodyOf(const ChainState& state) {
  std::string body(1, kFormat);
  body += absl::HexStringToBytes(state.digest);
  body += state.stream.Bytes();
  Put(state.thinning, 4, &body);
  Put((state.content.phi ? 1u : 0u) | (state.content.log_q ? 2u : 0u) |
          (state.content.action ? 4u : 0u),
      1, &body);
  Put(state.started ? 1 : 0, 1, &body);
  Put(state.step, 8, &body);
  Put(state.index, 8, &body);
  Put(std::bit_cast<uint64_t>(state.log_w), 8, &body);
  Put(state.accepted, 8, &body);
  Put(state.non_finite, 8, &body);
  Put(state.rejection_run, 8, &body);
  Put(state.longest_rejection_run, 8, &body);
  return body;
}

// Requires kBodyBytes that BodyOf made.
bool TakeBody(absl::string_view body, ChainState* state) {
  body.remove_prefix(1);
  state->digest = absl::BytesToHexString(body.substr(0, 32));
  body.remove_prefix(32);
  state->stream = StreamId::FromBytes(body.substr(0, 12));
  body.remove_prefix(12);
  state->thinning = static_cast<uint32_t>(Take(&body, 4));
  const uint64_t content = Take(&body, 1);
  state->content = {.phi = (content & 1) != 0,
                    .log_q = (content & 2) != 0,
                    .action = (content & 4) != 0};
  state->started = Take(&body, 1) != 0;
  state->step = Take(&body, 8);
  state->index = Take(&body, 8);
  state->log_w = std::bit_cast<double>(Take(&body, 8));
  state->accepted = Take(&body, 8);
  state->non_finite = Take(&body, 8);
  state->rejection_run = Take(&body, 8);
  state->longest_rejection_run = Take(&body, 8);
  return state->thinning > 0;
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

std::string SealToken(const std::string& key, const ChainState& state) {
  const std::string body = BodyOf(state);
  return body + Seal(key, body);
}

bool OpenToken(const std::string& key, absl::string_view token,
               ChainState* state) {
  if (token.size() != kBodyBytes + kSealBytes || token[0] != kFormat) {
    return false;
  }
  const absl::string_view body = token.substr(0, kBodyBytes);
  if (!ConstantTimeEqual(token.substr(kBodyBytes), Seal(key, body))) {
    return false;
  }
  return TakeBody(body, state);
}

std::string SealTokens(const std::string& key, const ChainSet& chains) {
  if (chains.size() == 1) return SealToken(key, chains[0]);
  std::string body(1, kFormatSeveral);
  Put(chains.size(), 2, &body);
  for (const ChainState& chain : chains) body += BodyOf(chain);
  return body + Seal(key, body);
}

bool OpenTokens(const std::string& key, absl::string_view token,
                ChainSet* chains) {
  if (!token.empty() && token[0] == kFormat) {
    chains->resize(1);
    return OpenToken(key, token, &(*chains)[0]);
  }
  if (token.size() < kSeveralBytes + kSealBytes || token[0] != kFormatSeveral ||
      token.size() > kSeveralBytes + kChainsMax * kBodyBytes + kSealBytes) {
    return false;
  }
  absl::string_view body = token.substr(0, token.size() - kSealBytes);
  if (!ConstantTimeEqual(token.substr(body.size()), Seal(key, body))) {
    return false;
  }
  body.remove_prefix(1);
  const uint64_t count = Take(&body, 2);
  if (count < 2 || body.size() != count * kBodyBytes) return false;
  chains->resize(count);
  for (ChainState& chain : *chains) {
    if (!TakeBody(body.substr(0, kBodyBytes), &chain)) return false;
    body.remove_prefix(kBodyBytes);
  }
  return true;
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
