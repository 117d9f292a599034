// Training specs in text form through the trainer's own checks: those that are
// accepted have what the rest of the program takes for granted.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/factory.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"

namespace {

struct Silent : public google::protobuf::io::ErrorCollector {
  void AddError(int, int, const std::string&) override {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  latticed::v1::TrainingSpec spec;
  google::protobuf::TextFormat::Parser parser;
  Silent silent;
  parser.RecordErrorsTo(&silent);
  if (!parser.ParseFromString(text, &spec)) return 0;
  const absl::Status status = latticed::ValidateTrainingSpec(spec);
  if (!status.ok()) {
    if (status.message().empty()) std::abort();
    return 0;
  }
  if (!latticed::ValidateModelSpec(spec.model()).ok()) std::abort();
  if (spec.model().lattice().extent_size() != 2) std::abort();
  for (const uint32_t extent : spec.model().lattice().extent()) {
    if (extent < 2 || extent > 256) std::abort();
  }
  return 0;
}
