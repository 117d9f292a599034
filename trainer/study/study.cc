#include "trainer/study/study.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/checkpoint/repository.h"
#include "core/kernels/parallel.h"
#include "latticed/build_id.h"
#include "trainer/study/ensembles.h"
#include "trainer/study/studies.h"

namespace latticed {
namespace {

const Study* FindStudy(const std::string& name) {
  for (const Study& study : AllStudies()) {
    if (study.name == name) return &study;
  }
  return nullptr;
}

// A terminal's bar, a log's line.
void ShowPiece(Progress* progress, size_t done, size_t total,
               const std::string& text) {
  constexpr size_t kWidth = 20;
  const size_t filled = total == 0 ? kWidth : kWidth * done / total;
  progress->Say(absl::StrFormat("[%s%s] %d/%d %s", std::string(filled, '#'),
                                std::string(kWidth - filled, '.'), done, total,
                                text));
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::Status(
      absl::ErrnoToStatusCode(error.value()),
      absl::StrCat(path, ": cannot be created: ", error.message(),
                   "; choose a writable --output"));
}

// The files of the pieces of a study, and what was read or made of them.
class Pieces {
 public:
  Pieces(const StudyRun& run, std::string directory, std::vector<Piece> pieces)
      : run_(run),
        directory_(std::move(directory)),
        settings_(absl::StrCat("draws=", run.options.draws,
                               " updates=", run.options.updates,
                               " repository=", run.options.repository)),
        pieces_(std::move(pieces)),
        rows_(pieces_.size()) {}

  // Those that are there. An error says which must not be taken.
  absl::Status Read() {
    for (size_t i = 0; i < pieces_.size(); ++i) {
      std::string build;
      auto rows = ReadRows(Path(i), settings_, &build);
      if (absl::IsNotFound(rows.status())) continue;
      if (!rows.ok()) return rows.status();
      builds_.insert(build.empty() ? "unknown" : build);
      rows_[i] = *std::move(rows);
    }
    return absl::OkStatus();
  }
  absl::Status Make(size_t i) {
    auto rows = pieces_[i].run(run_);
    if (!rows.ok()) return rows.status();
    absl::Status written = WriteRows(Path(i), settings_, *rows);
    if (written.ok()) {
      rows_[i] = *std::move(rows);
      builds_.insert(kBuildId);
    }
    return written;
  }

  size_t size() const { return pieces_.size(); }
  const std::string& Name(size_t i) const { return pieces_[i].name; }
  bool Has(size_t i) const { return rows_[i].has_value(); }
  size_t Kept() const {
    return std::count_if(rows_.begin(), rows_.end(),
                         [](const auto& rows) { return rows.has_value(); });
  }
  // That made those that are there.
  const std::set<std::string>& builds() const { return builds_; }
  // Of all pieces, in order.
  Rows Gather() const {
    Rows all;
    for (const auto& rows : rows_) {
      if (!rows.has_value()) continue;
      for (const auto& [table, list] : *rows) {
        all[table].insert(all[table].end(), list.begin(), list.end());
      }
    }
    return all;
  }

 private:
  std::string Path(size_t i) const {
    return absl::StrCat(directory_, "/pieces/", pieces_[i].name, ".json");
  }

  const StudyRun& run_;
  const std::string directory_, settings_;
  const std::vector<Piece> pieces_;
  std::vector<std::optional<Rows>> rows_;
  std::set<std::string> builds_;
};

}  // namespace

const std::vector<Study>& AllStudies() {
  static const auto* const kStudies = new std::vector<Study>{
      Table1Study(), TrainingStudy(), SymmetryStudy(), TimeKernelStudy(),
      KernelStudy(), AblationStudy(), ScalingStudy(),  ClassicalStudy()};
  return *kStudies;
}

absl::Status ValidateStudyOptions(const StudyOptions& options) {
  if (FindStudy(options.study) == nullptr) {
    std::vector<std::string> lines;
    for (const Study& study : AllStudies()) {
      lines.push_back(absl::StrFormat("  %-9s %s", study.name, study.about));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("study '", options.study,
                     "': there is none of that name; "
                     "there are\n",
                     absl::StrJoin(lines, "\n")));
  }
  if (options.output.empty()) {
    return absl::InvalidArgumentError(
        "--output is required: the folder for data, trainings and models");
  }
  if (!(options.budget_minutes > 0) || options.budget_minutes > 1e5) {
    return absl::InvalidArgumentError(
        absl::StrCat("--budget=", options.budget_minutes,
                     ": minutes for each training, above 0, at most 1e5"));
  }
  constexpr int64_t kDrawsMin = 1024, kDrawsMax = 1 << 20;
  if (options.draws < kDrawsMin || options.draws > kDrawsMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--draws=", options.draws, ": allowed are ", kDrawsMin, " to 2^20"));
  }
  constexpr int64_t kUpdatesMin = 1000, kUpdatesMax = int64_t{1} << 24;
  if (options.updates < kUpdatesMin || options.updates > kUpdatesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("--updates=", options.updates, ": allowed are ",
                     kUpdatesMin, " to 2^24"));
  }
  std::set<int64_t> seen;
  for (const int64_t l : options.lattices) {
    if (!HasEnsemble(l)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--lattices: no ensemble with xi = L/4 is known for L = ", l,
          "; there are ", absl::StrJoin(EnsembleLattices(), ", ")));
    }
    if (!seen.insert(l).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("--lattices: ", l, " is there twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status RunStudy(const StudyOptions& options, Progress* progress,
                      const std::atomic<bool>& stop) {
  if (absl::Status valid = ValidateStudyOptions(options); !valid.ok()) {
    return valid;
  }
  const Study& study = *FindStudy(options.study);
  const StudyRun run{options, progress, &stop};
  const std::string directory = absl::StrCat(options.output, "/", study.name);
  for (const std::string& path :
       {directory + "/pieces", run.TrainingDirectory()}) {
    if (absl::Status made = MakeDirectories(path); !made.ok()) return made;
  }
  Pieces pieces(run, directory,
                study.pieces(options.lattices.empty() ? study.lattices
                                                      : options.lattices));
  if (absl::Status read = pieces.Read(); !read.ok()) return read;
  absl::Status failed;
  std::vector<std::string> missing;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces.Has(i)) continue;
    ShowPiece(progress, i, pieces.size(), pieces.Name(i));
    absl::Status made =
        stop.load() ? absl::CancelledError("stopped") : pieces.Make(i);
    if (made.ok()) continue;
    if (absl::IsCancelled(made) || absl::IsResourceExhausted(made)) {
      return absl::Status(
          made.code(),
          absl::StrCat(study.name, "/", pieces.Name(i), ": ", made.message(),
                       "; ", pieces.Kept(), " of ", pieces.size(),
                       " pieces are kept, the same command goes on"));
    }
    progress->Say(absl::StrCat(pieces.Name(i), ": ", made.message()));
    missing.push_back(pieces.Name(i));
    if (failed.ok()) failed = made;
  }
  Rows rows = pieces.Gather();
  if (study.derive) study.derive(&rows);
  for (const Table& table : study.tables) {
    if (absl::Status written = WriteTable(directory, table, rows[table.name]);
        !written.ok()) {
      return written;
    }
  }
  Row about;
  about.Set("study", study.name)
      .Set("about", study.about)
      .Set("command", options.command)
      .Set("build", kBuildId)
      .Set("builds", absl::StrJoin(pieces.builds(), " "))
      .Set("threads", ComputeThreads())
      .Set("pieces", static_cast<double>(pieces.size()))
      .Set("missing", absl::StrJoin(missing, " "));
  const Table format = {"study",
                        "what made this folder",
                        {{"study", ""},
                         {"about", ""},
                         {"command", "of the last run"},
                         {"build", "of the last run"},
                         {"builds", "that made the pieces"},
                         {"threads", "compute threads"},
                         {"pieces", ""},
                         {"missing", "pieces that failed"}}};
  if (absl::Status written = WriteTable(directory, format, {about});
      !written.ok()) {
    return written;
  }
  if (!failed.ok()) {
    return absl::Status(
        failed.code(),
        absl::StrCat(study.name, ": ", missing.size(), " of ", pieces.size(),
                     " pieces failed (", absl::StrJoin(missing, ", "),
                     "); the first: ", failed.message()));
  }
  ShowPiece(progress, pieces.size(), pieces.size(),
            absl::StrCat("complete: ", directory,
                         "; figures: scripts/plot-study ", directory));
  return absl::OkStatus();
}

}  // namespace latticed
