#include <atomic>
#include <cmath>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/run.h"
#include "core/wire/atomic_file.h"

namespace latticed {
namespace {

// Parts of one stream that shards can never reach the end of.
constexpr uint64_t kShardDraws = uint64_t{1} << 40;

absl::StatusOr<v1::MeasureRequest> MakeRequest(const CommandOptions& options) {
  v1::MeasureRequest request;
  if (absl::Status s = FillStart(options, &request); !s.ok()) return s;
  request.set_first_index(options.first_index);
  for (const std::string& name : options.observables) {
    request.add_observable(name);
  }
  if (options.estimator == "chain") request.set_estimator(v1::ESTIMATOR_CHAIN);
  v1::MeasureBudget& budget = *request.mutable_budget();
  budget.set_relative_error(options.relative_error);
  budget.set_effective_samples(options.effective_samples);
  budget.set_seconds(options.seconds);
  budget.set_draws(options.draws);
  return request;
}

// One of the calls that measure at the same time, and its thread.
class Shard {
 public:
  Shard(CommandOptions options, v1::MeasureRequest request,
        const Interrupt& interrupt)
      : options_(std::move(options)),
        request_(std::move(request)),
        interrupt_(interrupt),
        notes_("", "", 0, Progress::ChooseStyle(options_.quiet)) {}
  ~Shard() {
    if (thread_.joinable()) thread_.join();
  }

  struct State {
    bool done = false;
    absl::Status ended;
    std::optional<v1::Provenance> provenance;
    std::optional<BlockSums> sums;
    Measured measured;
    int resumes = 0;
  };

  void Start() {
    thread_ = std::thread([this] {
      const absl::Status ended = Run();
      const std::lock_guard<std::mutex> lock(mutex_);
      state_.ended = ended;
      state_.done = true;
    });
  }
  State Now() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return state_;
  }
  void Pin(const std::string& digest) {
    request_.mutable_model()->set_digest(digest);
  }
  const std::string& server() const { return options_.server; }
  uint64_t first_index() const { return request_.first_index(); }

 private:
  absl::Status Run() {
    const auto client = ConnectFor(options_, interrupt_, &notes_);
    if (!client.ok()) return client.status();
    MeasureReader reader = (*client)->Measure(request_);
    Measured measured;
    while (true) {
      const absl::StatusOr<bool> more = reader.Next(&measured);
      if (!more.ok()) return more.status();
      if (!*more) return absl::OkStatus();
      const std::lock_guard<std::mutex> lock(mutex_);
      state_.provenance = reader.provenance();
      state_.sums = reader.sums();
      state_.measured = measured;
      state_.resumes = reader.resumes();
    }
  }

  const CommandOptions options_;
  v1::MeasureRequest request_;
  const Interrupt& interrupt_;
  Progress notes_;
  std::mutex mutex_;
  State state_;
  std::thread thread_;
};

struct Merged {
  Measured measured;
  std::optional<BlockSums> sums;
  int resumes = 0;
};

Merged Merge(const std::vector<Shard::State>& states,
             const v1::MeasureRequest& request) {
  Merged merged;
  for (const Shard::State& state : states) {
    merged.resumes += state.resumes;
    if (!state.sums.has_value()) continue;
    if (merged.sums.has_value()) {
      merged.sums->Append(*state.sums);
    } else {
      merged.sums = state.sums;
    }
  }
  // Of a single shard the server's own figures: for a chain they are finer.
  if (states.size() == 1) {
    merged.measured = states[0].measured;
  } else if (merged.sums.has_value()) {
    merged.measured = MeasuredFrom(*merged.sums, request.observable());
    for (const Shard::State& state : states) {
      merged.measured.accepted += state.measured.accepted;
    }
  }
  return merged;
}

Summary SummaryOf(const Measured& measured, const v1::MeasureRequest& request) {
  Summary summary{.measured = measured.draws, .total = measured.draws};
  for (const std::string& name : request.observable()) {
    const auto it = measured.observables.find(name);
    if (it != measured.observables.end()) summary.rows.push_back(*it);
  }
  summary.rows.push_back({"log_Z", measured.log_z});
  summary.rows.push_back({"ESS", measured.ess});
  return summary;
}

// "204800 draws  chi_2 1.0631(14) 0.13 %  log_Z ...", first names first.
std::string ProgressLine(const Measured& measured,
                         const v1::MeasureRequest& request) {
  std::string line = absl::StrCat(measured.draws, " draws");
  int shown = 0;
  for (const auto& [name, estimate] : SummaryOf(measured, request).rows) {
    if (name == "ESS" || ++shown > 3) continue;
    const ValueAndError text = Format(estimate);
    absl::StrAppendFormat(&line, "  %s %s +- %s (%.2g %%)", name, text.value,
                          text.error,
                          100 * std::abs(estimate.error / estimate.value));
  }
  return absl::StrCat(line, absl::StrFormat("  ESS %.3f", measured.ess.value));
}

std::string ShardsJson(const std::vector<std::unique_ptr<Shard>>& shards,
                       const std::vector<Shard::State>& states) {
  JsonWriter json;
  json.BeginArray();
  for (size_t i = 0; i < shards.size(); ++i) {
    if (!states[i].provenance.has_value()) continue;
    json.BeginObject();
    json.Key("server").String(shards[i]->server());
    json.Key("stream_id").String(Hex(states[i].provenance->stream_id()));
    json.Key("first_index").Integer(shards[i]->first_index());
    json.Key("draws").Integer(states[i].measured.draws);
    json.EndObject();
  }
  json.EndArray();
  return json.text();
}

// Everything a later merge with other measurements needs.
std::string SumsJson(const BlockSums& sums) {
  JsonWriter json;
  json.BeginObject();
  json.Key("log_w_reference").Number(sums.log_w_reference());
  json.Key("block_size").Integer(sums.block_size());
  json.Key("blocks").BeginArray();
  for (const BlockSum& block : sums.blocks()) {
    json.BeginObject();
    json.Key("positions").Integer(block.positions);
    json.Key("non_finite").Integer(block.non_finite);
    json.Key("sum_w").Number(block.sum_w);
    json.Key("sum_w2").Number(block.sum_w2);
    json.Key("measured").Number(block.measured);
    json.Key("quantities").BeginArray();
    for (const double sum : block.sums) json.Number(sum);
    json.EndArray().EndObject();
  }
  json.EndArray().EndObject();
  return json.text();
}

}  // namespace

int RunMeasure(const CommandOptions& options, const Interrupt& interrupt) {
  const auto request = MakeRequest(options);
  if (!request.ok()) {
    PrintError(request.status());
    return kExitUsage;
  }
  std::unique_ptr<AtomicFile> output;
  if (!options.output.empty()) {
    if (!options.force && std::filesystem::exists(options.output)) {
      PrintError(absl::AlreadyExistsError(
          absl::StrCat(options.output,
                       " exists; name another file or say --force to replace "
                       "it")));
      return kExitOutput;
    }
    auto file = AtomicFile::Create(options.output);
    if (!file.ok()) {
      PrintError(file.status());
      return kExitOutput;
    }
    output = std::move(*file);
  }

  // Set by a signal or when the merged result is good enough.
  Interrupt enough;
  const std::vector<std::string> servers =
      absl::StrSplit(options.server, ',', absl::SkipEmpty());
  if (servers.empty()) {
    PrintError(absl::InvalidArgumentError("--server names no server"));
    return kExitUsage;
  }
  for (const std::string& server : servers) {
    CommandOptions one = options;
    one.server = server;
    if (const auto client = ConnectFor(one, enough, nullptr); !client.ok()) {
      PrintError(client.status());
      return kExitUsage;
    }
  }
  std::vector<std::unique_ptr<Shard>> shards;
  for (uint64_t k = 0; k < options.shards; ++k) {
    CommandOptions of_shard = options;
    of_shard.server = servers[k % servers.size()];
    v1::MeasureRequest part = *request;
    if (options.draws > 0) {
      part.mutable_budget()->set_draws(options.draws / options.shards +
                                       (k < options.draws % options.shards));
    }
    if (request->has_stream()) {
      part.set_first_index(options.first_index + k * kShardDraws);
    }
    shards.push_back(
        std::make_unique<Shard>(std::move(of_shard), std::move(part), enough));
  }

  Progress progress(options.model, "draws", 0,
                    Progress::ChooseStyle(options.quiet));
  const auto states_now = [&] {
    std::vector<Shard::State> states;
    states.reserve(shards.size());
    for (const auto& shard : shards) states.push_back(shard->Now());
    return states;
  };
  shards[0]->Start();
  size_t started = 1;
  bool reached = false;
  std::vector<Shard::State> states;
  while (true) {
    states = states_now();
    // The others draw from the version that the first one found.
    if (started < shards.size() && states[0].provenance.has_value()) {
      for (; started < shards.size(); ++started) {
        shards[started]->Pin(states[0].provenance->digest());
        shards[started]->Start();
      }
    }
    bool running = false;
    bool failed = false;
    for (size_t i = 0; i < started; ++i) {
      running = running || !states[i].done;
      failed = failed || (states[i].done && !states[i].ended.ok());
    }
    const Merged merged = Merge(states, *request);
    if (merged.measured.draws > 0) {
      progress.Show(ProgressLine(merged.measured, *request));
    }
    reached =
        reached || (shards.size() > 1 && Reached(merged.measured, *request));
    if (reached || failed || interrupt.stop.load()) enough.stop.store(true);
    if (!running) break;
    absl::SleepFor(absl::Milliseconds(20));
  }
  const double seconds = progress.seconds();
  progress.Finish();

  const Merged merged = Merge(states, *request);
  RunReport report{.unit = "draws",
                   .asked = merged.measured.draws,
                   .received = merged.measured.draws,
                   .non_finite = merged.measured.non_finite,
                   .resumes = merged.resumes,
                   .seconds = seconds};
  for (const Shard::State& state : states) {
    const bool our_doing = reached && absl::IsCancelled(state.ended);
    // What one shard failed of, not that the others were stopped for it.
    if (!state.ended.ok() && !our_doing &&
        (report.ended.ok() || absl::IsCancelled(report.ended))) {
      report.ended = state.ended;
    }
  }
  if (options.draws > 0) report.asked = options.draws;
  // Ended by another limit than draws.
  if (report.ended.ok()) report.asked = report.received;
  if (states[0].provenance.has_value()) {
    report.provenance = &*states[0].provenance;
  }
  report.summary = SummaryOf(merged.measured, *request);
  report.json_extra.push_back(
      {"estimator", absl::StrCat("\"", options.estimator, "\"")});
  report.json_extra.push_back({"shards", ShardsJson(shards, states)});
  if (options.estimator == "chain") {
    const double rate = static_cast<double>(merged.measured.accepted) /
                        static_cast<double>(merged.measured.draws);
    report.json_extra.push_back(
        {"acceptance", JsonWriter().Number(rate).text()});
    report.json_extra.push_back(
        {"tau_int_chi_2", JsonWriter().Number(merged.measured.tau_int).text()});
    report.lines.push_back({"acceptance", absl::StrFormat("%.4f", rate)});
    report.lines.push_back(
        {"tau_int of chi_2", absl::StrFormat("%.3g", merged.measured.tau_int)});
  }
  if (shards.size() > 1) {
    report.lines.push_back({"shards", absl::StrCat(shards.size())});
  }
  if (output != nullptr && merged.sums.has_value() &&
      !interrupt.discard.load()) {
    RunReport stored = report;
    stored.json_extra.push_back({"sums", SumsJson(*merged.sums)});
    absl::Status written = output->Append(ReportJson(stored, options, nullptr));
    if (written.ok()) written = output->Commit();
    if (!written.ok()) {
      PrintError(written);
      return kExitOutput;
    }
    report.lines.push_back({"written", options.output});
  }
  // Hints ask the server what it has.
  CommandOptions first = options;
  first.server = servers[0];
  const auto client = ConnectFor(first, interrupt, nullptr);
  return FinishRun(report, options, interrupt, nullptr, client->get());
}

}  // namespace latticed
