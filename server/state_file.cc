#include "server/state_file.h"

#include <errno.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "core/wire/atomic_file.h"
#include "google/protobuf/util/json_util.h"

namespace latticed {
namespace {

constexpr size_t kBytesMax = 64 << 20;

std::string PathIn(const std::string& directory) {
  return absl::StrCat(directory, "/versions.json");
}

absl::Status Damaged(const std::string& path, absl::string_view why) {
  return absl::DataLossError(absl::StrCat(
      path, ": ", why,
      "; versions quarantined by an earlier run would go live again. Restore "
      "the file, or move it away to start without any memory"));
}

}  // namespace

absl::StatusOr<v1::ServerState> ReadServerState(const std::string& directory) {
  const std::string path = PathIn(directory);
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return v1::ServerState();
    return absl::UnavailableError(
        absl::StrCat(path, ": ", std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode) || static_cast<size_t>(info.st_size) > kBytesMax) {
    return Damaged(path, "is no file that this server wrote");
  }
  std::ifstream file(path, std::ios::binary);
  const std::string json((std::istreambuf_iterator<char>(file)), {});
  if (!file && !file.eof()) {
    return absl::UnavailableError(absl::StrCat(path, ": cannot be read"));
  }
  v1::ServerState state;
  const auto parsed = google::protobuf::util::JsonStringToMessage(json, &state);
  if (!parsed.ok()) return Damaged(path, parsed.message().ToString());
  if (state.format() != 1) {
    return Damaged(path, absl::StrCat("format is ", state.format(),
                                      ", this build reads 1"));
  }
  return state;
}

absl::Status WriteServerState(const std::string& directory,
                              v1::ServerState state) {
  state.set_format(1);
  if (state.judgements_size() > kJudgementsMax) {
    state.mutable_judgements()->DeleteSubrange(
        0, state.judgements_size() - kJudgementsMax);
  }
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto printed =
      google::protobuf::util::MessageToJsonString(state, &json, options);
  if (!printed.ok()) return absl::InternalError(printed.message().ToString());
  return WriteFileAtomically(PathIn(directory), json);
}

}  // namespace latticed
