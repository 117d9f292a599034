// Studies: the tables and figures of the papers as data that one command makes.
//
// A study is a list of pieces. Each piece's rows are written to a file of their
// own as soon as they are there, so that an interrupted study goes on where it
// was; then its tables are put together.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/progress.h"
#include "trainer/study/table.h"

namespace latticed {

struct StudyOptions {
  std::string study;
  // <output>/<study>/ gets the tables; trainings and published flows in
  // <output>/trainings and <output>/models are shared by all studies.
  std::string output;
  // Where the gated flows (phi4-l<L>) and their references are taken from;
  // empty: they are trained and run.
  std::string repository;
  std::vector<int64_t> lattices;  // L of L x L; empty: the study's own
  double budget_minutes = 3;      // for each training
  int64_t draws = 65536;          // of an estimate, 1024..2^20
  int64_t updates = 200000;       // of a Monte Carlo run, 1000..2^24
  std::string command;            // as typed
};

// What the pieces of a running study share.
struct StudyRun {
  StudyOptions options;
  Progress* progress;
  const std::atomic<bool>* stop;

  std::string TrainingDirectory() const {
    return options.output + "/trainings";
  }
  std::string ModelDirectory() const { return options.output + "/models"; }
};

struct Piece {
  std::string name;  // of its file
  std::function<absl::StatusOr<Rows>(const StudyRun&)> run;
};

struct Study {
  std::string name;
  std::string about;
  std::vector<int64_t> lattices;  // if none are asked for
  std::vector<Table> tables;
  // For these lattices, in the order in which they run.
  std::function<std::vector<Piece>(const std::vector<int64_t>& lattices)>
      pieces;
  // Tables that follow from the others' rows; may be empty.
  std::function<void(Rows*)> derive;
};

// In the order of docs/reproduction.md.
const std::vector<Study>& AllStudies();

// INVALID_ARGUMENT says what is wrong and what there is.
absl::Status ValidateStudyOptions(const StudyOptions& options);

// Makes the missing pieces, then the tables, of the lattices asked for, and
// study.json. A piece that fails does not keep the others from being made; its
// error is returned at the end, CANCELLED and a full disk at once. What was
// complete stays: a piece that is there but damaged, or was made with other
// settings, is an error before anything is written.
absl::Status RunStudy(const StudyOptions& options, Progress* progress,
                      const std::atomic<bool>& stop);

}  // namespace latticed
