#include "client/cli/physics_flags.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"

namespace latticed {

absl::StatusOr<v1::Action> ParseAction(const std::string& text) {
  v1::Action action;
  const absl::Status error = absl::InvalidArgumentError(absl::StrCat(
      "--expect_action: cannot read '", text,
      "'; give m2=-4,lambda=6.008 or m2=1 or an Action in protobuf text "
      "format, e.g. phi4 { latticed { mass_squared: -4 lambda: 6.008 } }"));
  if (absl::StrContains(text, '{')) {
    google::protobuf::TextFormat::Parser parser;
    // The error says what is expected; protobuf's own would go to stderr.
    class Silent : public google::protobuf::io::ErrorCollector {
      void AddError(int, int, const std::string&) override {}
    } silent;
    parser.RecordErrorsTo(&silent);
    if (!parser.ParseFromString(text, &action)) return error;
    return action;
  }
  std::optional<double> mass_squared, lambda;
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(item, absl::MaxSplits('=', 1));
    double value = 0;
    if (!absl::SimpleAtod(pair.second, &value)) return error;
    if (pair.first == "m2") {
      mass_squared = value;
    } else if (pair.first == "lambda") {
      lambda = value;
    } else {
      return error;
    }
  }
  if (!mass_squared.has_value()) return error;
  if (lambda.has_value()) {
    action.mutable_phi4()->mutable_latticed()->set_mass_squared(*mass_squared);
    action.mutable_phi4()->mutable_latticed()->set_lambda(*lambda);
  } else {
    action.mutable_free_field()->set_mass_squared(*mass_squared);
  }
  return action;
}

absl::StatusOr<v1::Lattice> ParseLattice(const std::string& text) {
  v1::Lattice lattice;
  for (absl::string_view part : absl::StrSplit(text, 'x')) {
    uint32_t extent = 0;
    if (!absl::SimpleAtoi(part, &extent) || extent < 2 || extent > 256) {
      lattice.Clear();
      break;
    }
    lattice.add_extent(extent);
  }
  if (lattice.extent_size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("--expect_lattice: '", text,
                     "' is not two extents of 2..256 such as 8x8"));
  }
  return lattice;
}

absl::StatusOr<v1::ChainUpdate> ParseUpdate(const std::string& text) {
  const absl::Status error = absl::InvalidArgumentError(absl::StrCat(
      "--update: cannot read '", text,
      "'; give cluster or hmc, then every=N and, if wanted, repeat=N and "
      "width=X for cluster, steps=N and length=X for hmc, all with commas "
      "between them"));
  const std::vector<absl::string_view> items = absl::StrSplit(text, ',');
  const bool hmc = items[0] == "hmc";
  if (!hmc && items[0] != "cluster") return error;
  v1::ChainUpdate update;
  if (hmc) {
    update.mutable_hmc();
  } else {
    update.mutable_cluster();
  }
  for (size_t i = 1; i < items.size(); ++i) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(items[i], absl::MaxSplits('=', 1));
    uint32_t count = 0;
    double value = 0;
    if (pair.first == "every" || pair.first == "repeat" ||
        (hmc && pair.first == "steps")) {
      if (!absl::SimpleAtoi(pair.second, &count) || count == 0) return error;
    } else if (!absl::SimpleAtod(pair.second, &value) || !(value > 0)) {
      return error;
    }
    if (pair.first == "every") {
      update.set_interval(count);
    } else if (pair.first == "repeat") {
      update.set_repeats(count);
    } else if (hmc && pair.first == "steps") {
      update.mutable_hmc()->set_steps(count);
    } else if (hmc && pair.first == "length") {
      update.mutable_hmc()->set_length(value);
    } else if (!hmc && pair.first == "width") {
      update.mutable_cluster()->set_width(value);
    } else {
      return error;
    }
  }
  if (update.interval() == 0) return error;
  return update;
}

}  // namespace latticed
