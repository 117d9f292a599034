#include "trainer/spec_file.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/repository.h"

namespace latticed {
namespace {

class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (text_.empty()) {
      text_ = absl::StrCat(line + 1, ":", column + 1, ": ", message);
    }
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

absl::StatusOr<v1::TrainingSpec> ReadTrainingSpec(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat(
        "--spec=", path, ": cannot be read; examples are in trainer/specs"));
  }
  constexpr std::streamsize kSizeMax = 1 << 20;
  std::string text(kSizeMax, '\0');
  file.read(text.data(), kSizeMax);
  text.resize(file.gcount());
  if (file.peek() != std::ifstream::traits_type::eof()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--spec=", path, ": larger than 1 MiB, not a spec"));
  }
  v1::TrainingSpec spec;
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(text, &spec)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":", error.text(),
                     "; the fields are those of TrainingSpec in "
                     "proto/latticed/v1/spec.proto"));
  }
  return spec;
}

absl::Status ValidateTrainOptions(const TrainOptions& options,
                                  const std::string& spec_path) {
  if (spec_path.empty() || options.repository.empty() ||
      options.model.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--",
                                                   spec_path.empty() ? "spec"
                                                   : options.repository.empty()
                                                       ? "repository"
                                                       : "model",
                                                   " is required; see --help"));
  }
  if (!ValidModelName(options.model)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--model=", options.model,
                     ": a model's name is [a-z][a-z0-9-]{0,62}, e.g. phi4-l8"));
  }
  if (!(options.minutes_max >= 0)) {
    return absl::InvalidArgumentError("--minutes must not be negative");
  }
  return absl::OkStatus();
}

}  // namespace latticed
