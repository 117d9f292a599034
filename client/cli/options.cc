#include "client/cli/options.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/flags.h"
#include "client/cli/output.h"

namespace latticed {
namespace {

constexpr char kProgramHelp[] =
    R"(latticectl draws lattice field configurations from a Latticed server.

  latticectl models                           what the server has
  latticectl sample --model M --count N       independent draws with log q and S
  latticectl chain --model M --steps N        an independence Metropolis chain
  latticectl measure --model M --observable O observables and log Z with errors
  latticectl score --model M --input F.npz    log q and S of your configurations
  latticectl verify F.npz                     draws what F holds again and compares
  latticectl health                           whether it serves, for probes
  latticectl admin ACTION                     versions and drains, for operators
  latticectl COMMAND --help                   flags and examples of a command

Exit codes
  0    done
  1    usage or bad input: a flag, an unknown model, another action than expected
  2    the server is not available, busy or stopping, after retries
  3    the output cannot be written
  4    the server failed, or sent something that contradicts itself; verify: the
       file differs from what the server draws
  130  interrupted; complete blocks are kept in a valid, shorter file
)";

constexpr uint64_t kShardsMax = 64;

constexpr char kAdminExamples[] = R"(
Actions
  info                        build, device and settings
  refresh [--model M]         look at the repository now
  promote --model M --digest D            live without asking the gate
  rollback --model M [--reason R]         the version before serves again, the
                                          live one is quarantined
  quarantine --model M --digest D --reason R
  unquarantine --model M --digest D
  drain                       end calls so that they can be resumed, then exit

They go to the admin listener, 127.0.0.1:7411 unless --server says otherwise.
`latticectl models --all` lists digests and why a version was rejected.
)";

constexpr char kModelsExamples[] = R"(
Examples
  latticectl models
  latticectl models --all
  latticectl models --server gpu17:7410 --json
)";

constexpr char kHealthExamples[] = R"(
Asks once, unless --retry_for says how long to wait. Exit codes: 0 it serves, 2 it
does not or cannot be reached, 1 there is no such model.

Examples
  latticectl health
  latticectl health --alive
  latticectl health --model phi4-l8 --retry_for 60
)";

constexpr char kSampleExamples[] = R"(
Examples
  latticectl sample --model phi4-l8 --count 4096
  latticectl sample --model phi4-l32 --count 1e5 --stream run-7 --output run7.npz
  latticectl sample --model phi4-l8 --count 100 --stream run-7 --first_index 1e5

F.npz holds phi [n, L_0, L_1] float32, log_q [n] and action [n] float64; F.npy
holds phi alone. F.npz.json beside it says where the draws come from and how to
draw them again. The arrays are collected in a hidden folder beside F, which
needs as much room as F itself, and appear when complete. After Ctrl-C, or when
the server stays away, the blocks that arrived are kept: F is then a valid,
shorter file and says so in F.npz.json. A second Ctrl-C discards them.
)";

constexpr char kChainExamples[] = R"(
Examples
  latticectl chain --model phi4-l8 --steps 10000
  latticectl chain --model phi4-l8 --steps 1e5 --thinning 10 --output a.npz
  latticectl chain --token_file a.npz.token --steps 1e5 --output b.npz

The second chain goes on where the first one ended, to the byte. F.npz holds phi
[n, L_0, L_1] float32, log_q [n], action [n], step [n], index [n] (the draw that
configuration is) and accept [steps]; F.npy holds phi alone. The token that
continues the chain is written to --token_file, by default to F.npz.token.
With --chains K every chain makes --steps steps on a stream of its own, one token
continues all of them, and F.npz also holds chain [n] and accept_chain.

--update breaks up long runs of rejections: before every step that is a multiple
of `every`, the configuration is moved by updates that leave p invariant
(`repeat` of them, default 1), and keeps its place in the chain by its own
weight. cluster: a Metropolis sweep of `width` and Swendsen-Wang signs; hmc:
trajectories of `length` in `steps`. F.npz then also holds updates [n], those
since draw index [n]. The settings of a continued chain are in its token.
)";

constexpr char kMeasureExamples[] = R"(
Examples
  latticectl measure --model phi4-l8 --observable chi_2 --relative_error 1e-3
  latticectl measure --model phi4-l8 --observable chi_2,m_p_L,log_Z --draws 1e6
  latticectl measure --model phi4-l32 --observable chi_2 --seconds 60 --shards 2
      --server gpu1:7410,gpu2:7410 --output chi2.json

Observables: chi_2 abs_M binder_U phi2 link_energy action_per_site xi_2nd m_p_L
xi log_Z, and Gt_<t>, m_eff_<t> for t up to L/2. The measurement ends at
whichever limit comes first. Shards draw from streams, or parts of --stream, of
their own; their sums are merged exactly. With --draws, --stream and one shard
the same command gives the same numbers again.
)";

constexpr char kVerifyExamples[] = R"(
Examples
  latticectl verify run7.npz
  latticectl verify run7.npz --blocks 20

F.npz.json says where the draws of F.npz come from. A server that has the same
digest draws them again, and every byte is compared; chains are run again from
their start. Exit code 0: the same. 4: they differ, and the first index that does
is named. 1: this cannot be said here, because the version is retired or the
server computes in another numerics mode.
)";

constexpr char kScoreExamples[] = R"(
Examples
  latticectl score --model phi4-l8 --input hmc.npy
  latticectl score --model phi4-l8 --input run7.npz --output scores.npz

The input is phi [n, L_0, L_1] float32: an .npy, or the array phi of an
uncompressed .npz. The output holds log_w, log_q and action [n] float64, in the
order of the input; log_w = -action - log_q is not a number where either
overflows. The summary has the ESS of the flow twice, for configurations drawn
from it and for those of the target distribution, from Monte Carlo: a mode that
the flow misses makes the second one small.
)";

void AddCommonFlags(FlagSet* flags, CommandOptions* o) {
  flags->Add("server", "HOST:PORT", "default 127.0.0.1:7410", &o->server);
  flags->AddSwitch("quiet", "no progress, no table", &o->quiet);
  flags->AddSwitch("json", "a machine-readable summary on standard output",
                   &o->json);
  flags->Add("retry_for", "SECONDS",
             "how long to go on trying when the server goes away\n"
             "during a call (default 60)",
             &o->retry_for);
  flags->Add("tls_ca_file", "FILE",
             "TLS: authorities that sign the server's certificate",
             &o->tls_ca_file);
  flags->Add("tls_certificate_file", "FILE",
             "show this certificate; with --tls_key_file",
             &o->tls_certificate_file);
  flags->Add("tls_key_file", "FILE", "its private key, mode 600",
             &o->tls_key_file);
  flags->Add("tls_server_name", "NAME",
             "in the server's certificate, if not the host",
             &o->tls_server_name);
  flags->Add("auth_token_file", "FILE",
             "show the token in it, mode 600; not sent without TLS\n"
             "to another machine",
             &o->auth_token_file);
  flags->AddSwitch("help", "this text", &o->help);
}

void AddDrawFlags(FlagSet* flags, const char* output, CommandOptions* o) {
  flags->Add("model", "NAME", "see `latticectl models`", &o->model);
  flags->Add("version", "N", "default: the live one", &o->version);
  flags->Add("digest", "HEX", "64 digits, instead of --version", &o->digest);
  flags->Add("stream", "NAME",
             "the same name gives the same draws again; default:\n"
             "a fresh stream, never repeated",
             &o->stream);
  flags->Add("stream_id", "HEX",
             "24 digits, as a provenance shows a fresh stream", &o->stream_id);
  flags->Add("output", "FILE", output, &o->output);
  flags->AddSwitch("force", "replace FILE if it exists", &o->force);
  flags->Add("expect_action", "ACTION",
             "refuse any other: m2=-4,lambda=6.008 (phi^4 in the\n"
             "program's convention), m2=1 (free field), or protobuf\n"
             "text such as 'phi4 { hopping { kappa: 0.2 lambda: 1 } }'",
             &o->expect_action);
  flags->Add("expect_lattice", "EXTENTS", "refuse any other: 8x8",
             &o->expect_lattice);
}

FlagSet FlagsOf(const std::string& command, CommandOptions* o) {
  FlagSet flags;
  if (command == "models") {
    flags.AddSwitch("all", "every version, with its state", &o->all);
  } else if (command == "health") {
    flags.Add("model", "NAME",
              "whether this one has a live version; default: any", &o->model);
    flags.AddSwitch("alive", "whether the process works, whatever it has",
                    &o->alive);
  } else if (command == "admin") {
    flags.Add("model", "NAME", "see `latticectl models`", &o->model);
    flags.Add("digest", "HEX", "64 digits", &o->digest);
    flags.Add("reason", "TEXT", "others will ask why", &o->reason);
  }
  if (command == "sample") {
    flags.Add("count", "N", "number of draws, 1..2^40", &o->count);
    flags.Add("first_index", "K", "where in the stream to begin (default 0)",
              &o->first_index);
    AddDrawFlags(&flags, "F.npy or F.npz", o);
  } else if (command == "chain") {
    flags.Add("steps", "N", "further steps, 1..2^40", &o->steps);
    flags.Add("thinning", "N", "keep every n-th step (default 1)",
              &o->thinning);
    flags.Add("chains", "K", "independent chains at once, 1..64 (default 1)",
              &o->chains);
    flags.Add("update", "KIND,...",
              "update the configuration between steps: for example\n"
              "cluster,every=100 or hmc,every=50,steps=20,length=2",
              &o->update);
    flags.Add("token_file", "FILE",
              "continue the chain whose token it holds; afterwards\n"
              "it holds the new one. If there is no such file, a\n"
              "chain of --model begins and FILE is created",
              &o->token_file);
    AddDrawFlags(&flags, "F.npy or F.npz", o);
  } else if (command == "verify") {
    flags.Add("input", "FILE", "as FILE after the command: .npz or .npy",
              &o->input);
    flags.Add("blocks", "N", "compare N blocks at random, not everything",
              &o->blocks);
  } else if (command == "score") {
    flags.Add("input", "FILE", "configurations: .npy, or .npz with phi",
              &o->input);
    flags.Add("model", "NAME", "see `latticectl models`", &o->model);
    flags.Add("version", "N", "default: the live one", &o->version);
    flags.Add("digest", "HEX", "64 digits, instead of --version", &o->digest);
    flags.Add("output", "FILE", "F.npz, or F.npy for log_w alone", &o->output);
    flags.AddSwitch("force", "replace FILE if it exists", &o->force);
  } else if (command == "measure") {
    flags.Add("observable", "NAME,...", "see below", &o->observable_list);
    flags.Add("relative_error", "X", "until every error is below X times value",
              &o->relative_error);
    flags.Add("effective_samples", "N", "until ESS times draws is N",
              &o->effective_samples);
    flags.Add("seconds", "S", "until S seconds have passed", &o->seconds);
    flags.Add("draws", "N", "until N draws, or steps, have been made",
              &o->draws);
    flags.Add("estimator", "NAME",
              "importance (default), or chain: Metropolis, errors by\n"
              "the Gamma method",
              &o->estimator);
    flags.Add("shards", "K",
              "measure in K calls at once, spread over the servers of\n"
              "--server A,B,... (default 1)",
              &o->shards);
    flags.Add("first_index", "K", "where in the stream to begin (default 0)",
              &o->first_index);
    AddDrawFlags(&flags, "F.json: results, sums and provenance", o);
  }
  AddCommonFlags(&flags, o);
  return flags;
}

absl::Status CheckSelection(const CommandOptions& options) {
  if (options.version.has_value() && !options.digest.empty()) {
    return absl::InvalidArgumentError(
        "--version and --digest both choose a version: give one of them");
  }
  if (!options.stream.empty() && !options.stream_id.empty()) {
    return absl::InvalidArgumentError(
        "--stream and --stream_id both choose a stream: give one of them");
  }
  return absl::OkStatus();
}

absl::Status CheckScore(const CommandOptions& options) {
  if (options.model.empty()) {
    return absl::InvalidArgumentError(
        "--model is REQUIRED; `latticectl models` lists what there is");
  }
  if (options.input.empty()) {
    return absl::InvalidArgumentError(
        "--input is REQUIRED: configurations as an .npy or .npz file");
  }
  if (!options.output.empty() && !HasArrayExtension(options.output)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--output: ", options.output, " must end in .npy or .npz"));
  }
  return absl::OkStatus();
}

absl::Status CheckMeasure(CommandOptions* options) {
  if (options->model.empty()) {
    return absl::InvalidArgumentError(
        "--model is REQUIRED; `latticectl models` lists what there is");
  }
  options->observables =
      absl::StrSplit(options->observable_list, ',', absl::SkipEmpty());
  if (options->observables.empty()) {
    return absl::InvalidArgumentError(
        "--observable is REQUIRED: names such as chi_2,log_Z; "
        "`latticectl measure --help` lists them");
  }
  if (options->relative_error == 0 && options->effective_samples == 0 &&
      options->seconds == 0 && options->draws == 0) {
    return absl::InvalidArgumentError(
        "a limit is REQUIRED: --relative_error, --effective_samples, "
        "--seconds or --draws");
  }
  if (options->estimator != "importance" && options->estimator != "chain") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--estimator: '", options->estimator, "' is not importance or chain"));
  }
  if (options->shards < 1 || options->shards > kShardsMax ||
      (options->draws > 0 && options->draws < options->shards)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--shards must be 1..", kShardsMax,
                     " and at most --draws, got ", options->shards));
  }
  if (!options->output.empty() && !absl::EndsWith(options->output, ".json")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output: ", options->output, " must end in .json"));
  }
  return absl::OkStatus();
}

absl::Status CheckAdmin(const CommandOptions& options) {
  const std::string& action = options.input;
  const bool of_version =
      action == "promote" || action == "quarantine" || action == "unquarantine";
  if (!of_version && action != "rollback" && action != "refresh" &&
      action != "info" && action != "drain") {
    return absl::InvalidArgumentError(absl::StrCat(
        action.empty() ? "an action is missing" : "unknown action '", action,
        action.empty() ? "" : "'",
        "; there are info, refresh, promote, rollback, quarantine, "
        "unquarantine and drain"));
  }
  if ((of_version || action == "rollback") && options.model.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(action, " needs --model"));
  }
  if (of_version && options.digest.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(action,
                     " needs --digest; `latticectl models --all` "
                     "lists them"));
  }
  if (action == "quarantine" && options.reason.empty()) {
    return absl::InvalidArgumentError("quarantine needs --reason");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseCommand(const std::string& command,
                          const std::vector<std::string>& arguments,
                          CommandOptions* options) {
  std::vector<std::string> flags = arguments;
  const bool admin = command == "admin";
  if (admin) options->server = "127.0.0.1:7411";
  if (command == "health") options->retry_for = 0;
  if ((command == "verify" || admin) && !flags.empty() &&
      !absl::StartsWith(flags[0], "--")) {
    options->input = flags[0];
    flags.erase(flags.begin());
  }
  if (absl::Status s = FlagsOf(command, options).Parse(flags); !s.ok()) {
    return s;
  }
  if (options->help || command == "models") return absl::OkStatus();
  if (command == "health") {
    if (!options->alive || options->model.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("--alive and --model: give one of them");
  }
  if (admin) return CheckAdmin(*options);
  if (command == "measure") {
    if (absl::Status s = CheckMeasure(options); !s.ok()) return s;
    return CheckSelection(*options);
  }
  if (command == "verify") {
    if (!HasArrayExtension(options->input) || options->blocks > 1000000) {
      return absl::InvalidArgumentError(
          "verify needs a FILE.npz or FILE.npy, and at most 1e6 --blocks");
    }
    return absl::OkStatus();
  }
  if (command == "score") {
    if (absl::Status s = CheckScore(*options); !s.ok()) return s;
    return CheckSelection(*options);
  }
  const bool chain = command == "chain";
  const uint64_t n = chain ? options->steps : options->count;
  if (n < 1 || n > uint64_t{1} << 40) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", chain ? "steps" : "count",
                     " is REQUIRED and must be 1..2^40, got ", n));
  }
  if (options->model.empty() && options->token_file.empty()) {
    return absl::InvalidArgumentError(
        "--model is REQUIRED; `latticectl models` lists what there is");
  }
  if (options->thinning < 1 || options->thinning > uint64_t{1} << 20) {
    return absl::InvalidArgumentError(
        absl::StrCat("--thinning must be 1..2^20, got ", options->thinning));
  }
  if (options->chains < 1 || options->chains > 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("--chains must be 1..64, got ", options->chains));
  }
  if (!options->output.empty() && !HasArrayExtension(options->output)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--output: ", options->output, " must end in .npy or .npz"));
  }
  return CheckSelection(*options);
}

std::string HelpText(const std::string& command) {
  CommandOptions unused;
  const std::string flags =
      absl::StrCat("Flags\n", FlagsOf(command, &unused).Help());
  if (command == "models") {
    return absl::StrCat("latticectl models: what the server has\n\n", flags,
                        kModelsExamples);
  }
  if (command == "health") {
    return absl::StrCat("latticectl health: whether a server serves\n\n", flags,
                        kHealthExamples);
  }
  if (command == "admin") {
    return absl::StrCat(
        "latticectl admin ACTION: versions and drains, for operators\n\n",
        flags, kAdminExamples);
  }
  if (command == "sample") {
    return absl::StrCat(
        "latticectl sample: independent draws phi ~ q with log q and S\n\n",
        flags, kSampleExamples);
  }
  if (command == "chain") {
    return absl::StrCat(
        "latticectl chain: an independence Metropolis chain of draws\n\n",
        flags, kChainExamples);
  }
  if (command == "measure") {
    return absl::StrCat(
        "latticectl measure: observables and log Z, computed by the server\n\n",
        flags, kMeasureExamples);
  }
  if (command == "verify") {
    return absl::StrCat(
        "latticectl verify FILE: whether it holds what the server draws\n\n",
        flags, kVerifyExamples);
  }
  if (command == "score") {
    return absl::StrCat(
        "latticectl score: log q and S of configurations of yours\n\n", flags,
        kScoreExamples);
  }
  return kProgramHelp;
}

absl::StatusOr<v1::ModelSelector> SelectorFromOptions(
    const CommandOptions& options) {
  v1::ModelSelector selector;
  selector.set_model(options.model);
  if (options.version.has_value()) {
    if (*options.version < 1 || *options.version > INT64_MAX) {
      return absl::InvalidArgumentError("--version must be at least 1");
    }
    selector.set_version(static_cast<int64_t>(*options.version));
  }
  if (!options.digest.empty()) selector.set_digest(options.digest);
  return selector;
}

absl::StatusOr<std::optional<v1::RngStream>> StreamFromOptions(
    const CommandOptions& options) {
  v1::RngStream stream;
  if (!options.stream.empty()) {
    stream.set_name(options.stream);
    return stream;
  }
  if (options.stream_id.empty()) return std::nullopt;
  const bool hex = options.stream_id.find_first_not_of(
                       "0123456789abcdefABCDEF") == std::string::npos;
  if (!hex || options.stream_id.size() != 24) {
    return absl::InvalidArgumentError(
        absl::StrCat("--stream_id: '", options.stream_id,
                     "' is not 24 hex digits, the form a provenance shows"));
  }
  stream.set_id(absl::HexStringToBytes(options.stream_id));
  return stream;
}

}  // namespace latticed
