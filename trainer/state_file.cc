#include "trainer/state_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "core/wire/atomic_file.h"
#include "core/wire/digest.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace latticed {
namespace {

constexpr size_t kDigestSize = 64;

std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

}  // namespace

absl::StatusOr<v1::TrainingState> ReadTrainingState(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (const int error = errno; !file) {
    if (error == ENOENT) {
      return absl::NotFoundError(absl::StrCat(path, ": no training state"));
    }
    // It may be there all the same: not to be started over and written upon.
    return absl::Status(
        absl::ErrnoToStatusCode(error),
        absl::StrCat(
            path, ": the training state cannot be read: ", std::strerror(error),
            "; mend that, or start over with --restart"));
  }
  const std::string contents((std::istreambuf_iterator<char>(file)), {});
  if (file.bad()) {
    return absl::UnavailableError(absl::StrCat(
        path, ": reading the training state failed half-way; try again"));
  }
  v1::TrainingState state;
  const size_t size =
      contents.size() < kDigestSize ? 0 : contents.size() - kDigestSize;
  const absl::string_view body(contents.data(), size);
  if (size == 0 || Sha256Hex(body) != contents.substr(size) ||
      !state.ParseFromArray(body.data(), static_cast<int>(size))) {
    return absl::DataLossError(
        absl::StrCat(path,
                     ": the training state is damaged (its checksum differs); "
                     "start over with --restart"));
  }
  return state;
}

absl::Status WriteTrainingState(const std::string& path,
                                const v1::TrainingState& state) {
  std::string contents = state.SerializeAsString();
  absl::StrAppend(&contents, Sha256Hex(contents));
  return WriteFileAtomically(path, contents);
}

std::string TrainingFingerprint(const v1::TrainingSpec& spec, int threads) {
  return Sha256Hex(absl::StrCat(DeterministicBytes(spec), "#", threads));
}

}  // namespace latticed
