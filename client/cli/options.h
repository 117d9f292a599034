// The command line of latticectl as plain structs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/physics_flags.h"
#include "latticed/v1/sampler.pb.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

struct CommandOptions {
  // Every command.
  std::string command_line;  // as typed, for provenance
  std::string server = "127.0.0.1:7410";
  bool quiet = false;
  bool json = false;
  bool help = false;
  double retry_for = 60;  // seconds
  std::string tls_ca_file;
  std::string tls_certificate_file;
  std::string tls_key_file;
  std::string tls_server_name;
  std::string auth_token_file;  // of who calls; token_file below is a chain's

  // sample, chain and measure.
  std::string model;
  std::optional<uint64_t> version;
  std::string digest;
  std::string stream;     // a name
  std::string stream_id;  // or 24 hex digits, as a provenance shows it
  std::string output;
  bool force = false;
  std::string expect_action;
  std::string expect_lattice;

  // sample.
  uint64_t count = 0;
  uint64_t first_index = 0;

  // chain.
  uint64_t steps = 0;
  uint64_t thinning = 1;
  uint64_t chains = 1;
  std::string update;  // as typed
  std::string token_file;

  // measure.
  std::string observable_list;  // as typed
  std::vector<std::string> observables;
  std::string estimator = "importance";
  double relative_error = 0;
  double effective_samples = 0;
  double seconds = 0;
  uint64_t draws = 0;
  uint64_t shards = 1;

  bool all = false;    // models: every version
  bool alive = false;  // health: of the process
  std::string reason;  // admin

  // score and verify: the file to read; admin: the action.
  std::string input;
  uint64_t blocks = 0;  // 0: all of it
};

// A command's flags into `options`. INVALID_ARGUMENT says which flag and why.
absl::Status ParseCommand(const std::string& command,
                          const std::vector<std::string>& arguments,
                          CommandOptions* options);

// Help of one command; of the program for an empty or unknown one.
std::string HelpText(const std::string& command);

absl::StatusOr<v1::ModelSelector> SelectorFromOptions(
    const CommandOptions& options);
// Unset if neither --stream nor --stream_id is given.
absl::StatusOr<std::optional<v1::RngStream>> StreamFromOptions(
    const CommandOptions& options);

// Model, stream and guards of a StreamSamplesRequest, ChainStart or
// MeasureRequest.
template <typename Message>
absl::Status FillStart(const CommandOptions& options, Message* message) {
  const auto selector = SelectorFromOptions(options);
  if (!selector.ok()) return selector.status();
  *message->mutable_model() = *selector;
  const auto stream = StreamFromOptions(options);
  if (!stream.ok()) return stream.status();
  if (stream->has_value()) *message->mutable_stream() = **stream;
  if (!options.expect_action.empty()) {
    const auto action = ParseAction(options.expect_action);
    if (!action.ok()) return action.status();
    *message->mutable_expected_action() = *action;
  }
  if (!options.expect_lattice.empty()) {
    const auto lattice = ParseLattice(options.expect_lattice);
    if (!lattice.ok()) return lattice.status();
    *message->mutable_expected_lattice() = *lattice;
  }
  return absl::OkStatus();
}

}  // namespace latticed
