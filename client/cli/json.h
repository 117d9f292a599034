// A JSON document written front to back, keys in the order given.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace latticed {

// Two spaces of indentation a level. Keys belong inside objects only; nesting
// is the caller's care. Not thread-safe.
class JsonWriter {
 public:
  JsonWriter& BeginObject();
  JsonWriter& EndObject();
  JsonWriter& BeginArray();
  JsonWriter& EndArray();
  JsonWriter& Key(absl::string_view key);

  JsonWriter& String(absl::string_view value);
  // NaN and infinity, which JSON lacks, become null; 17 digits otherwise.
  JsonWriter& Number(double value);
  JsonWriter& Integer(uint64_t value);
  JsonWriter& Bool(bool value);
  // A finished document, taken as it is.
  JsonWriter& Raw(absl::string_view json);

  const std::string& text() const { return text_; }

 private:
  void Separate();
  JsonWriter& Begin(char bracket);
  JsonWriter& End(char bracket);

  std::string text_;
  int depth_ = 0;
  bool first_ = true;  // in this object or array
  bool after_key_ = false;
};

}  // namespace latticed
