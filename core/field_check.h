// Checks of spec fields: the value, its allowed range and what to try, under
// the path a reader finds the field at. For validate.cc and factory.cc.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "latticed/v1/spec.pb.h"

namespace latticed {

inline absl::Status BadField(absl::string_view path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

// Keeps the first failure and lets later checks pass by.
class FieldChecks {
 public:
  explicit FieldChecks(absl::string_view path) : path_(path) {}

  const absl::Status& status() const { return status_; }

  std::string Path(absl::string_view field) const {
    return path_.empty() ? std::string(field) : absl::StrCat(path_, ".", field);
  }

  void Fail(absl::string_view field, absl::string_view what) {
    if (status_.ok()) status_ = BadField(Path(field), what);
  }
  void Require(bool good, absl::string_view field, absl::string_view what) {
    if (!good) Fail(field, what);
  }
  void Update(const absl::Status& status) { status_.Update(status); }

  void Range(absl::string_view field, uint64_t value, uint64_t least,
             uint64_t most) {
    if (value >= least && value <= most) return;
    Fail(field,
         absl::StrCat("is ", value, ", allowed are ", least, " to ", most));
  }
  void MultipleOf16(absl::string_view field, uint64_t value, uint64_t least,
                    uint64_t most) {
    if (value >= least && value <= most && value % 16 == 0) return;
    Fail(field,
         absl::StrCat("is ", value, ", allowed are multiples of 16 from ",
                      least, " to ", most));
  }
  void Finite(absl::string_view field, double value) {
    if (!std::isfinite(value)) {
      Fail(field, absl::StrCat("is ", value, ", allowed are finite numbers"));
    }
  }
  void Positive(absl::string_view field, double value) {
    if (!std::isfinite(value) || value <= 0) {
      Fail(field,
           absl::StrCat("is ", value, ", allowed are finite numbers > 0"));
    }
  }
  void NotNegative(absl::string_view field, double value) {
    if (!std::isfinite(value) || value < 0) {
      Fail(field,
           absl::StrCat("is ", value, ", allowed are finite numbers >= 0"));
    }
  }
  // [0, 1)
  void Fraction(absl::string_view field, double value) {
    if (!(value >= 0 && value < 1)) {
      Fail(field, absl::StrCat("is ", value, ", allowed is 0 <= value < 1"));
    }
  }

 private:
  std::string path_;
  absl::Status status_;
};

// The parts of a ModelSpec that others carry too; `path` is where they stand.
absl::Status CheckLattice(absl::string_view path, const v1::Lattice& lattice);
absl::Status CheckAction(absl::string_view path, const v1::Action& action);

}  // namespace latticed
