#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/run.h"
#include "core/wire/atomic_file.h"
#include "core/wire/block.h"
#include "google/protobuf/util/json_util.h"

namespace latticed {
namespace {

// A token with configurations has up to a little over 1 MiB.
constexpr size_t kTokenHexMax = size_t{4} << 20;
constexpr int64_t kSummaryBytes = int64_t{256} << 20;

// Tokens are bytes; their files hold one line of hex that survives mail and
// shells.
absl::StatusOr<std::string> ReadToken(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  }
  std::ostringstream contents;
  contents << file.rdbuf();
  const std::string hex(absl::StripAsciiWhitespace(contents.str()));
  if (hex.empty() || hex.size() % 2 != 0 || hex.size() > kTokenHexMax ||
      hex.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     " does not hold a chain token: one line of hex "
                     "digits, as latticectl chain writes it"));
  }
  return absl::HexStringToBytes(hex);
}

absl::StatusOr<v1::RunChainRequest> MakeRequest(const CommandOptions& options) {
  v1::RunChainRequest request;
  request.set_steps(options.steps);
  if (!options.token_file.empty()) {
    const absl::StatusOr<std::string> token = ReadToken(options.token_file);
    if (token.ok()) {
      request.set_token(*token);
      return request;
    }
    if (!absl::IsNotFound(token.status()) || options.model.empty()) {
      return token.status();
    }
  }
  v1::ChainStart& chain = *request.mutable_chain();
  if (absl::Status s = FillStart(options, &chain); !s.ok()) return s;
  chain.set_thinning(static_cast<uint32_t>(options.thinning));
  chain.set_chains(static_cast<uint32_t>(options.chains));
  if (!options.update.empty()) {
    const auto update = ParseUpdate(options.update);
    if (!update.ok()) return update.status();
    *chain.mutable_update() = *update;
  }
  return request;
}

// Appends the kept configurations, repetitions written out.
absl::Status Append(const StepBlock& block, const v1::ChainHeader& header,
                    ArrayOutput* output) {
  const v1::Lattice& lattice = header.provenance().lattice();
  const bool several = header.chains() > 1;
  size_t sites = 1;
  for (uint32_t extent : lattice.extent()) sites *= extent;
  if (!output->is_open()) {
    const std::vector<int64_t> extents(lattice.extent().begin(),
                                       lattice.extent().end());
    std::vector<Column> columns = {
        {"phi", "<f4", extents}, {"log_q", "<f8", {}}, {"action", "<f8", {}},
        {"step", "<u8", {}},     {"index", "<u8", {}}, {"accept", "|u1", {}}};
    if (several) {
      columns.push_back({"chain", "|u1", {}});
      columns.push_back({"accept_chain", "|u1", {}});
    }
    if (header.has_update()) columns.push_back({"updates", "<u8", {}});
    if (absl::Status s = output->Open(std::move(columns)); !s.ok()) return s;
  }
  std::vector<float> phi;
  std::vector<double> log_q, action;
  std::vector<uint64_t> index, updates;
  phi.reserve(block.row.size() * sites);
  for (uint32_t row : block.row) {
    const auto first = block.phi.begin() + row * sites;
    phi.insert(phi.end(), first, first + sites);
    log_q.push_back(block.log_q[row]);
    action.push_back(block.action[row]);
    index.push_back(block.index[row]);
    if (header.has_update()) updates.push_back(block.updates[row]);
  }
  const auto bytes = [](const auto& values) {
    return absl::string_view(reinterpret_cast<const char*>(values.data()),
                             values.size() * sizeof(values[0]));
  };
  const uint8_t which = static_cast<uint8_t>(block.chain);
  const std::vector<uint8_t> chain(several ? index.size() : 0, which);
  const std::vector<uint8_t> accept_chain(several ? block.accept.size() : 0,
                                          which);
  std::vector<absl::string_view> parts = {bytes(phi),    bytes(log_q),
                                          bytes(action), bytes(block.kept_step),
                                          bytes(index),  bytes(block.accept)};
  if (several) {
    parts.push_back(bytes(chain));
    parts.push_back(bytes(accept_chain));
  }
  if (header.has_update()) parts.push_back(bytes(updates));
  size_t column = 0;
  for (const absl::string_view part : parts) {
    if (absl::Status s = output->Append(column++, part); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// The mean over chains of every row, its error in quadrature.
Summary MeanOf(const std::vector<ChainSummaryBuilder>& chains) {
  if (chains.size() == 1) return chains[0].Result();
  const double count = static_cast<double>(chains.size());
  Summary mean;
  for (const ChainSummaryBuilder& chain : chains) {
    const Summary one = chain.Result();
    mean.measured += one.measured;
    mean.total += one.total;
    if (mean.rows.empty()) {
      for (const auto& row : one.rows) mean.rows.push_back({row.first, {}});
    }
    if (one.rows.size() != mean.rows.size()) return mean;
    for (size_t i = 0; i < one.rows.size(); ++i) {
      Estimate& row = mean.rows[i].second;
      row.value += one.rows[i].second.value / count;
      row.error = std::hypot(row.error, one.rows[i].second.error / count);
    }
  }
  return mean;
}

}  // namespace

int RunChain(const CommandOptions& options, const Interrupt& interrupt) {
  const auto request = MakeRequest(options);
  if (!request.ok()) {
    PrintError(request.status());
    return kExitUsage;
  }
  std::unique_ptr<ArrayOutput> output;
  if (!options.output.empty()) {
    auto prepared = ArrayOutput::Prepare(options.output, options.force);
    if (!prepared.ok()) {
      PrintError(prepared.status());
      return kExitOutput;
    }
    output = std::move(*prepared);
  }
  std::string token_path = options.token_file;
  if (token_path.empty() && output != nullptr) {
    token_path = absl::StrCat(output->path(), ".token");
  }
  // Opened before anything is drawn; it appears with the last token in it.
  std::unique_ptr<AtomicFile> token_file;
  if (!token_path.empty()) {
    auto file = AtomicFile::Create(token_path);
    if (!file.ok()) {
      PrintError(file.status());
      return kExitOutput;
    }
    token_file = std::move(*file);
  }
  Progress progress(options.model.empty() ? "chain" : options.model, "steps",
                    options.steps, Progress::ChooseStyle(options.quiet));
  const auto client = ConnectFor(options, interrupt, &progress);
  if (!client.ok()) {
    PrintError(client.status());
    return kExitUsage;
  }
  if (request->has_chain() && !options.token_file.empty()) {
    progress.Note(absl::StrCat("latticectl: ", options.token_file,
                               " is new: a chain begins"));
  }

  ChainReader chain = (*client)->RunChain(*request);
  std::vector<ChainSummaryBuilder> summaries;  // of each chain
  // A file ends with a whole round, as its token does.
  std::vector<StepBlock> round;
  StepBlock block;
  absl::Status ended;
  while (!interrupt.stop.load()) {
    const absl::StatusOr<bool> more = chain.Next(&block);
    if (!more.ok()) ended = more.status();
    if (!more.ok() || !*more) break;
    const v1::Provenance& provenance = chain.header().provenance();
    const v1::Lattice& lattice = provenance.lattice();
    if (summaries.empty()) {
      if (!options.model.empty() && options.model != provenance.model()) {
        PrintError(absl::FailedPreconditionError(
            absl::StrCat(options.token_file, " continues a chain of ",
                         provenance.model(), ", not of --model ", options.model,
                         "; leave --model out or name another token file")));
        return kExitUsage;
      }
      for (uint32_t c = 0; c < chain.chains(); ++c) {
        summaries.emplace_back(lattice.extent(0), lattice.extent(1),
                               kSummaryBytes / chain.chains());
      }
    }
    if (block.phi.empty() && !block.row.empty()) {
      ended = absl::FailedPreconditionError(
          "the chain was started without its configurations, by another "
          "client; only that client can continue it");
      break;
    }
    round.push_back(std::move(block));
    block = StepBlock();
    if (round.size() < chain.chains()) continue;
    for (const StepBlock& of_one : round) {
      summaries[of_one.chain].Add(of_one);
      if (output == nullptr) continue;
      if (absl::Status s = Append(of_one, chain.header(), output.get());
          !s.ok()) {
        progress.Finish();
        PrintError(s);
        return kExitOutput;
      }
    }
    round.clear();
    progress.Update(chain.steps());
  }
  const double seconds = progress.seconds();
  progress.Finish();
  if (interrupt.stop.load() && chain.steps() < options.steps) {
    ended = absl::CancelledError(absl::StrCat(
        "interrupted after ", chain.steps(), " of ", options.steps, " steps"));
  }

  RunReport report{.unit = "steps",
                   .asked = options.steps,
                   .received = chain.steps(),
                   .non_finite = chain.non_finite(),
                   .resumes = chain.resumes(),
                   .seconds = seconds,
                   .ended = ended};
  report.json_extra.push_back(
      {"longest_rejection_run", absl::StrCat(chain.longest_rejection_run())});
  report.lines.push_back(
      {"longest rejection run", absl::StrCat(chain.longest_rejection_run())});
  if (chain.steps() > 0) {
    report.provenance = &chain.header().provenance();
    report.json_extra.push_back(
        {"first_step", absl::StrCat(chain.header().first_step())});
    report.json_extra.push_back(
        {"thinning", absl::StrCat(chain.header().thinning())});
    report.json_extra.push_back(
        {"token", absl::StrCat("\"", Hex(chain.token()), "\"")});
  }
  if (!summaries.empty()) report.summary = MeanOf(summaries);
  if (chain.chains() > 1) {
    report.lines.push_back({"chains", absl::StrCat(chain.chains())});
    report.json_extra.push_back({"chains", absl::StrCat(chain.chains())});
  }
  // The server's figures are of one call: after a resume they are of its end.
  const v1::ChainSummary& of_server = chain.summary();
  if (chain.resumes() == 0) {
    for (const auto& [name, tau] :
         {std::pair<const char*, Estimate>{
              "tau_int_action",
              {of_server.tau_int_action(), of_server.tau_int_action_error()}},
          {"tau_int_abs_M",
           {of_server.tau_int_abs_m(), of_server.tau_int_abs_m_error()}}}) {
      if (tau.value == 0) continue;
      const ValueAndError text = Format(tau);
      report.lines.push_back({absl::StrCat(name, " in steps"),
                              absl::StrCat(text.value, " +- ", text.error)});
      report.json_extra.push_back(
          {name, JsonWriter().Number(tau.value).text()});
    }
  }
  if (chain.header().has_update()) {
    std::string update;
    if (google::protobuf::util::MessageToJsonString(chain.header().update(),
                                                    &update)
            .ok()) {
      report.json_extra.push_back({"update", update});
    }
    if (of_server.updates() > 0 && chain.resumes() == 0) {
      report.lines.push_back(
          {"updates",
           absl::StrCat(
               of_server.updates(), ", acceptance ",
               absl::StrFormat("%.3f", of_server.update_acceptance()))});
    }
  }
  if (token_file != nullptr) {
    report.lines.push_back(
        {"continue with", absl::StrCat("latticectl chain --token_file ",
                                       token_path, " --steps N")});
  }
  const int code =
      FinishRun(report, options, interrupt, output.get(), client->get());
  // The token last: were it newer than the data, steps would be missing.
  if (token_file != nullptr && chain.steps() > 0 && code != kExitOutput &&
      !interrupt.discard.load()) {
    absl::Status written =
        token_file->Append(absl::StrCat(Hex(chain.token()), "\n"));
    if (written.ok()) written = token_file->Commit();
    if (!written.ok()) {
      PrintError(written);
      return kExitOutput;
    }
  }
  return code;
}

}  // namespace latticed
