#include "client/cli/messages.h"

#include <cstdio>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/errors.h"

namespace latticed {

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return kExitUsage;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitUnavailable;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    default:
      return kExitServer;
  }
}

void PrintError(const absl::Status& status, const std::string& hint) {
  std::fprintf(stderr, "latticectl: %s\n",
               std::string(status.message()).c_str());
  if (!hint.empty()) std::fprintf(stderr, "  try: %s\n", hint.c_str());
}

std::string HintFor(const absl::Status& status, Client* client) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      if (ErrorReason(status) == "NO_LIVE_VERSION") {
        return "`latticectl models` says why nothing is live";
      }
      if (!ErrorReason(status).empty()) return "again in a while";
      return "start a server with `latticed --repository DIR`, or name "
             "another one with --server HOST:PORT";
    case absl::StatusCode::kNotFound: {
      if (ErrorReason(status) == "VERSION_NOT_FOUND") {
        return "`latticectl models` shows the live version of every model";
      }
      const auto models = client->ListModels();
      if (!models.ok()) return "";
      if (models->empty()) return "publish a model: the server has none";
      return absl::StrCat(
          "one of the models it has: ",
          absl::StrJoin(*models, ", ",
                        [](std::string* out, const v1::Model& model) {
                          absl::StrAppend(out, model.model());
                        }));
    }
    case absl::StatusCode::kFailedPrecondition:
      return "`latticectl models` shows the action and the lattice of every "
             "model";
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
      return "the server is busy: again in a while, or fewer draws at once";
    case absl::StatusCode::kUnauthenticated:
      return "--auth_token_file FILE, or --tls_certificate_file and "
             "--tls_key_file, with what the server's operator gave you";
    case absl::StatusCode::kUnimplemented:
      return "a server of this version: `latticectl` and `latticed` differ";
    default:
      return "";
  }
}

}  // namespace latticed
