#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/run.h"
#include "core/wire/block.h"
#include "core/wire/npy_reader.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"

namespace latticed {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

// Rows of a randomly chosen block.
constexpr int64_t kBlockRows = 64;
constexpr uintmax_t kSidecarBytesMax = 64 << 20;

// What FILE.json says of FILE.
struct Stored {
  v1::Provenance provenance;
  bool chain = false;
  uint64_t count = 0;  // draws, or steps
  uint64_t first = 0;  // index, or step
  uint64_t thinning = 1;
  uint64_t chains = 1;
  std::optional<v1::ChainUpdate> update;
  uint64_t non_finite = 0;
  std::vector<uint64_t> non_finite_index;  // ascending, maybe not all
};

// Numbers up to 2^53 exactly; larger ones were written as they were typed, but
// JSON readers round them.
bool TakeCount(const Struct& json, const char* name, uint64_t* value) {
  const auto it = json.fields().find(name);
  if (it == json.fields().end() ||
      it->second.kind_case() != Value::kNumberValue) {
    return false;
  }
  const double number = it->second.number_value();
  if (!(number >= 0) || number > 0x1p64 - 2048) return false;
  *value = static_cast<uint64_t>(number);
  return true;
}

absl::StatusOr<Stored> ReadSidecar(const std::string& path) {
  const auto bad = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", why,
                     "; it must be what latticectl sample or chain wrote "
                     "beside the file"));
  };
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) {
    return absl::NotFoundError(
        absl::StrCat("cannot read ", path, ": ", error.message(),
                     "; without it nobody knows where the draws come from"));
  }
  if (size > kSidecarBytesMax) return bad("it is too large");
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  Struct json;
  if (!google::protobuf::util::JsonStringToMessage(text.str(), &json).ok()) {
    return bad("it is no JSON");
  }
  const auto provenance = json.fields().find("provenance");
  std::string provenance_text;
  Stored stored;
  google::protobuf::util::JsonParseOptions lenient;
  lenient.ignore_unknown_fields = true;
  if (provenance == json.fields().end() ||
      !google::protobuf::util::MessageToJsonString(provenance->second,
                                                   &provenance_text)
           .ok() ||
      !google::protobuf::util::JsonStringToMessage(provenance_text,
                                                   &stored.provenance, lenient)
           .ok() ||
      stored.provenance.stream_id().size() != 12 ||
      stored.provenance.lattice().extent_size() != 2) {
    return bad("it has no provenance");
  }
  stored.chain = TakeCount(json, "steps", &stored.count);
  if (!stored.chain && !TakeCount(json, "draws", &stored.count)) {
    return bad("it counts neither draws nor steps");
  }
  if (stored.chain) {
    if (!TakeCount(json, "first_step", &stored.first) ||
        !TakeCount(json, "thinning", &stored.thinning)) {
      return bad("it does not say which steps of the chain these are");
    }
    TakeCount(json, "chains", &stored.chains);
    const auto update = json.fields().find("update");
    if (update != json.fields().end()) {
      std::string text;
      if (!google::protobuf::util::MessageToJsonString(update->second, &text)
               .ok() ||
          !google::protobuf::util::JsonStringToMessage(
               text, &stored.update.emplace(), lenient)
               .ok()) {
        return bad("its update cannot be read");
      }
    }
    if (stored.chains > 1 && stored.first > 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          path,
          ": several chains can be verified from their start only, and "
          "these begin at step ",
          stored.first));
    }
  } else {
    // The provenance has it exactly, as a string.
    stored.first = stored.provenance.first_index();
    TakeCount(json, "non_finite", &stored.non_finite);
    const auto listed = json.fields().find("non_finite_index");
    if (listed != json.fields().end()) {
      for (const Value& index : listed->second.list_value().values()) {
        stored.non_finite_index.push_back(
            static_cast<uint64_t>(index.number_value()));
      }
    }
  }
  if (stored.count == 0) return bad("it counts nothing");
  return stored;
}

// Holds bytes drawn again against rows of the file.
class Comparison {
 public:
  Comparison(const NpyReader& file, std::string path)
      : file_(file), path_(std::move(path)) {}

  // INTERNAL with the row that differs first, which `name_of` puts into words.
  template <typename NameOf>
  absl::Status Compare(const std::string& array_name, int64_t row,
                       absl::string_view drawn, const NameOf& name_of) {
    const NpyReader::Array* array = file_.Find(array_name);
    if (array == nullptr) return absl::OkStatus();  // .npy: phi alone
    const int64_t rows =
        array->row_bytes == 0
            ? 0
            : static_cast<int64_t>(drawn.size()) / array->row_bytes;
    const int64_t held =
        std::min(rows, std::max<int64_t>(0, array->rows() - row));
    const auto stored = file_.Rows(*array, std::min(row, array->rows()), held);
    if (!stored.ok()) return stored.status();
    for (int64_t i = 0; i < rows; ++i) {
      const size_t at = static_cast<size_t>(i * array->row_bytes);
      const size_t size = static_cast<size_t>(array->row_bytes);
      if (i < held && std::memcmp(&drawn[at], &(*stored)[at], size) == 0) {
        continue;
      }
      return absl::InternalError(absl::StrCat(
          path_, " differs: ", array_name, " of ", name_of(i),
          i < held ? " is not what the server draws" : " is missing"));
    }
    return absl::OkStatus();
  }

  // Every array ends where the draws do.
  absl::Status CheckRows(const std::string& array_name, int64_t rows) const {
    const NpyReader::Array* array = file_.Find(array_name);
    if (array == nullptr || array->rows() == rows) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(path_, " differs: ", array_name,
                                            " has ", array->rows(),
                                            " rows, the server draws ", rows));
  }

 private:
  const NpyReader& file_;
  const std::string path_;
};

absl::Status CheckSame(const v1::Provenance& is, const v1::Provenance& was) {
  if (is.numerics_mode() == was.numerics_mode()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "NUMERICS_MISMATCH: this server computes in mode '", is.numerics_mode(),
      "', the file was drawn in '", was.numerics_mode(),
      "': its bits can only be had from a server of that mode"));
}

// Draws [first_index, first_index + count) against rows from `row` on; `rows`
// becomes how many they are.
absl::Status VerifyDraws(Client* client, const Stored& stored,
                         uint64_t first_index, uint64_t count, int64_t row,
                         Comparison* comparison, Progress* progress,
                         int64_t* rows) {
  v1::StreamSamplesRequest request;
  request.mutable_model()->set_model(stored.provenance.model());
  request.mutable_model()->set_digest(stored.provenance.digest());
  request.mutable_stream()->set_id(stored.provenance.stream_id());
  request.set_first_index(first_index);
  request.set_count(count);
  SampleReader draws = client->StreamSamples(request);
  DrawBlock block;
  *rows = 0;
  while (true) {
    const absl::StatusOr<bool> more = draws.Next(&block);
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    if (absl::Status s = CheckSame(draws.provenance(), stored.provenance);
        !s.ok()) {
      return s;
    }
    std::vector<uint64_t> index;
    size_t skipped = 0;
    for (uint64_t i = 0; i < block.count; ++i) {
      if (skipped < block.non_finite.size() && block.non_finite[skipped] == i) {
        ++skipped;
      } else {
        index.push_back(block.first_index + i);
      }
    }
    const auto name = [&](int64_t i) {
      return absl::StrCat("index ", index[static_cast<size_t>(i)]);
    };
    for (const auto& [array, bytes] :
         {std::pair<const char*, absl::string_view>{"phi", BytesOf(block.phi)},
          {"log_q", BytesOf(block.log_q)},
          {"action", BytesOf(block.action)}}) {
      if (absl::Status s = comparison->Compare(array, row + *rows, bytes, name);
          !s.ok()) {
        return s;
      }
    }
    *rows += static_cast<int64_t>(index.size());
    if (progress != nullptr) progress->Update(draws.received());
  }
}

absl::Status VerifyChain(Client* client, const Stored& stored,
                         Comparison* comparison, Progress* progress) {
  v1::RunChainRequest request;
  v1::ChainStart& chain = *request.mutable_chain();
  chain.mutable_model()->set_model(stored.provenance.model());
  chain.mutable_model()->set_digest(stored.provenance.digest());
  chain.mutable_stream()->set_id(stored.provenance.stream_id());
  chain.set_thinning(static_cast<uint32_t>(stored.thinning));
  chain.set_chains(static_cast<uint32_t>(stored.chains));
  if (stored.update.has_value()) *chain.mutable_update() = *stored.update;
  request.set_steps(stored.first + stored.count);
  ChainReader reader = client->RunChain(request);
  StepBlock block;
  int64_t row = 0;
  int64_t step_row = 0;
  while (true) {
    const absl::StatusOr<bool> more = reader.Next(&block);
    if (!more.ok()) return more.status();
    if (!*more) break;
    if (absl::Status s =
            CheckSame(reader.header().provenance(), stored.provenance);
        !s.ok()) {
      return s;
    }
    progress->Update(reader.steps());
    const size_t sites =
        block.index.empty() ? 0 : block.phi.size() / block.index.size();
    std::vector<float> phi;
    std::vector<double> log_q, action;
    std::vector<uint64_t> step, index, updates;
    for (size_t i = 0; i < block.row.size(); ++i) {
      if (block.kept_step[i] < stored.first) continue;
      const size_t at = block.row[i];
      phi.insert(phi.end(), &block.phi[at * sites],
                 &block.phi[at * sites] + sites);
      log_q.push_back(block.log_q[at]);
      action.push_back(block.action[at]);
      step.push_back(block.kept_step[i]);
      index.push_back(block.index[at]);
      if (stored.update.has_value()) updates.push_back(block.updates[at]);
    }
    const auto bytes = [](const auto& values) {
      return absl::string_view(reinterpret_cast<const char*>(values.data()),
                               values.size() * sizeof(values[0]));
    };
    const auto name = [&](int64_t i) {
      return absl::StrCat("step ", step[static_cast<size_t>(i)]);
    };
    for (const auto& [array, part] :
         {std::pair<const char*, absl::string_view>{"phi", bytes(phi)},
          {"log_q", bytes(log_q)},
          {"action", bytes(action)},
          {"step", bytes(step)},
          {"index", bytes(index)},
          {"updates", bytes(updates)}}) {
      if (absl::Status s = comparison->Compare(array, row, part, name);
          !s.ok()) {
        return s;
      }
    }
    row += static_cast<int64_t>(step.size());
    const uint64_t skip =
        stored.first > block.first_step
            ? std::min(stored.first - block.first_step, block.steps)
            : 0;
    const uint64_t first_step = block.first_step + skip;
    if (absl::Status s = comparison->Compare(
            "accept", step_row, bytes(block.accept).substr(skip),
            [&](int64_t i) {
              return absl::StrCat("step ",
                                  first_step + static_cast<uint64_t>(i));
            });
        !s.ok()) {
      return s;
    }
    step_row += static_cast<int64_t>(block.steps - skip);
  }
  for (const char* array :
       {"phi", "log_q", "action", "step", "index", "updates"}) {
    if (absl::Status s = comparison->CheckRows(array, row); !s.ok()) return s;
  }
  return comparison->CheckRows("accept", step_row);
}

// `blocks` stretches of rows, anywhere in the file.
absl::Status VerifySome(Client* client, const Stored& stored, uint64_t blocks,
                        Comparison* comparison, Progress* progress) {
  if (stored.non_finite > stored.non_finite_index.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file leaves ", stored.non_finite,
                     " draws out and its provenance lists the first ",
                     stored.non_finite_index.size(),
                     ": verify all of it, without --blocks"));
  }
  std::mt19937_64 random{std::random_device{}()};
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t size = std::min<uint64_t>(stored.count, kBlockRows);
    const uint64_t offset =
        std::uniform_int_distribution<uint64_t>(0, stored.count - size)(random);
    const uint64_t first = stored.first + offset;
    const auto before = std::lower_bound(stored.non_finite_index.begin(),
                                         stored.non_finite_index.end(), first);
    int64_t rows = 0;
    if (absl::Status s =
            VerifyDraws(client, stored, first, size,
                        static_cast<int64_t>(offset) -
                            (before - stored.non_finite_index.begin()),
                        comparison, nullptr, &rows);
        !s.ok()) {
      return s;
    }
    progress->Update((i + 1) * size);
  }
  return absl::OkStatus();
}

}  // namespace

int RunVerify(const CommandOptions& options, const Interrupt& interrupt) {
  const auto stored = ReadSidecar(absl::StrCat(options.input, ".json"));
  if (!stored.ok()) {
    PrintError(stored.status());
    return kExitUsage;
  }
  const auto file = NpyReader::Open(options.input);
  if (!file.ok()) {
    PrintError(file.status());
    return kExitUsage;
  }
  if (options.blocks > 0 && stored->chain) {
    PrintError(absl::InvalidArgumentError(
        "--blocks is for independent draws: a chain has to be run from its "
        "start"));
    return kExitUsage;
  }
  const v1::Lattice& lattice = stored->provenance.lattice();
  const NpyReader::Array* phi = (*file)->Find("phi");
  if (phi == nullptr || phi->descr != "<f4" || phi->shape.size() != 3 ||
      phi->shape[1] != lattice.extent(0) ||
      phi->shape[2] != lattice.extent(1)) {
    PrintError(absl::InternalError(absl::StrCat(options.input,
                                                " differs: it holds no phi on ",
                                                FormatLattice(lattice))));
    return kExitServer;
  }
  const uint64_t total =
      stored->chain ? stored->first + stored->count
      : options.blocks > 0
          ? options.blocks * std::min<uint64_t>(stored->count, kBlockRows)
          : stored->count;
  Progress progress("verify", stored->chain ? "steps" : "draws", total,
                    Progress::ChooseStyle(options.quiet));
  const auto client = ConnectFor(options, interrupt, &progress);
  if (!client.ok()) {
    PrintError(client.status());
    return kExitUsage;
  }
  Comparison comparison(**file, options.input);
  absl::Status verified;
  if (stored->chain) {
    verified = VerifyChain(client->get(), *stored, &comparison, &progress);
  } else if (options.blocks > 0) {
    verified = VerifySome(client->get(), *stored, options.blocks, &comparison,
                          &progress);
  } else {
    int64_t rows = 0;
    verified = VerifyDraws(client->get(), *stored, stored->first, stored->count,
                           0, &comparison, &progress, &rows);
    for (const char* array : {"phi", "log_q", "action"}) {
      if (verified.ok()) verified = comparison.CheckRows(array, rows);
    }
  }
  progress.Finish();
  if (!verified.ok()) {
    PrintError(verified, HintFor(verified, client->get()));
    return ExitCodeOf(verified);
  }
  if (!options.quiet) {
    std::printf("%s: %llu %s of %s are the same bytes\n", options.input.c_str(),
                static_cast<unsigned long long>(total),
                stored->chain ? "steps" : "draws",
                FormatProvenance(stored->provenance).c_str());
  }
  return kExitOk;
}

}  // namespace latticed
