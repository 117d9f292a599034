#include "core/checkpoint/weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"

namespace latticed {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tensors are copied to and from little-endian files");

constexpr uint64_t kHeaderBytesMax = uint64_t{1} << 20;
constexpr uint64_t kFileBytesMax = uint64_t{1} << 30;
constexpr size_t kTensorsMax = 4096;
constexpr int kDimensionsMax = 8;
constexpr size_t kNameBytesMax = 256;
constexpr size_t kLengthBytes = 8;
constexpr char kMetadata[] = "__metadata__";

using google::protobuf::ListValue;
using google::protobuf::Struct;
using google::protobuf::Value;

template <typename... Args>
absl::Status Damaged(const Args&... args) {
  return absl::DataLossError(absl::StrCat("weights file: ", args...));
}

// Names come from the file: keep a message readable whatever they hold.
std::string Quoted(const std::string& name) {
  return absl::StrCat("\"", absl::CHexEscape(name.substr(0, 64)), "\"");
}

// What our own names are made of; nothing that needs escaping anywhere.
bool ValidName(absl::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

// An exact non-negative integer: JSON numbers are doubles.
bool ToSize(const Value& value, uint64_t* size) {
  constexpr double kExactMax = 9007199254740992.0;  // 2^53
  if (value.kind_case() != Value::kNumberValue) return false;
  const double number = value.number_value();
  if (!(number >= 0) || number > kExactMax) return false;
  *size = static_cast<uint64_t>(number);
  return static_cast<double>(*size) == number;
}

struct Entry {
  std::string name;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

absl::StatusOr<Entry> ParseEntry(const std::string& name, const Value& value,
                                 uint64_t buffer_bytes) {
  const std::string tensor = absl::StrCat("tensor ", Quoted(name));
  if (!ValidName(name)) {
    return Damaged(tensor, ": names are 1 to ", kNameBytesMax,
                   " letters, digits and ._-");
  }
  const auto& fields = value.struct_value().fields();
  if (value.kind_case() != Value::kStructValue || fields.size() != 3 ||
      !fields.contains("dtype") || !fields.contains("shape") ||
      !fields.contains("data_offsets")) {
    return Damaged(tensor, " must have dtype, shape and data_offsets and ",
                   "nothing else");
  }
  const std::string& dtype = fields.at("dtype").string_value();
  if (dtype != "F32") {
    return Damaged(tensor, " has dtype ", Quoted(dtype), ", allowed is F32");
  }

  Entry entry;
  entry.name = name;
  const Value& shape = fields.at("shape");
  const ListValue& dimensions = shape.list_value();
  if (shape.kind_case() != Value::kListValue ||
      dimensions.values_size() > kDimensionsMax) {
    return Damaged(tensor, " has a shape that is no list of at most ",
                   kDimensionsMax, " dimensions");
  }
  uint64_t bytes = sizeof(float);
  for (const Value& dimension : dimensions.values()) {
    uint64_t extent = 0;
    // A product of two numbers below 2^31 cannot overflow.
    if (!ToSize(dimension, &extent) || extent > kFileBytesMax) {
      return Damaged(tensor, " has a dimension that is no integer from 0 to ",
                     kFileBytesMax);
    }
    bytes *= extent;
    if (bytes > kFileBytesMax) {
      return Damaged(tensor, " is larger than the limit of ", kFileBytesMax,
                     " bytes");
    }
    entry.shape.push_back(static_cast<int64_t>(extent));
  }
  const Value& offsets = fields.at("data_offsets");
  if (offsets.list_value().values_size() != 2 ||
      !ToSize(offsets.list_value().values(0), &entry.begin) ||
      !ToSize(offsets.list_value().values(1), &entry.end) ||
      entry.begin > entry.end || entry.end > buffer_bytes) {
    return Damaged(tensor, " has data_offsets that are no range within the ",
                   buffer_bytes, " bytes of data");
  }
  if (entry.end - entry.begin != bytes) {
    return Damaged(tensor, " of shape [", absl::StrJoin(entry.shape, ", "),
                   "] needs ", bytes, " bytes, its data_offsets span ",
                   entry.end - entry.begin);
  }
  return entry;
}

absl::StatusOr<std::vector<Entry>> ParseHeader(absl::string_view json,
                                               uint64_t buffer_bytes) {
  Struct header;
  const auto parsed = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(json.data(), json.size()), &header);
  if (!parsed.ok()) return Damaged("its header is no JSON object");
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.fields()) {
    if (name == kMetadata) continue;
    absl::StatusOr<Entry> entry = ParseEntry(name, value, buffer_bytes);
    if (!entry.ok()) return entry.status();
    entries.push_back(*std::move(entry));
  }
  if (entries.size() > kTensorsMax) {
    return Damaged("it names ", entries.size(), " tensors, at most ",
                   kTensorsMax, " are allowed");
  }
  if (entries.empty()) return Damaged("it holds no tensors");
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t expected = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != expected) {
      return Damaged("tensor ", Quoted(entry.name), " begins at byte ",
                     entry.begin, " of the data, not at ", expected,
                     " where the one before it ends: tensors must not ",
                     "overlap or leave gaps");
    }
    expected = entry.end;
  }
  if (expected != buffer_bytes) {
    return Damaged("it has ", buffer_bytes, " bytes of data, its tensors ",
                   "take ", expected, ": truncated or padded");
  }
  return entries;
}

}  // namespace

absl::StatusOr<Weights> ParseSafetensors(absl::string_view bytes) {
  if (bytes.size() < kLengthBytes) {
    return Damaged("it has ", bytes.size(), " bytes, too few for a header");
  }
  if (bytes.size() > kFileBytesMax) {
    return Damaged("it has ", bytes.size(), " bytes, at most ", kFileBytesMax,
                   " are allowed");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  bytes.remove_prefix(kLengthBytes);
  if (header_bytes > kHeaderBytesMax) {
    return Damaged("its header has ", header_bytes, " bytes, at most ",
                   kHeaderBytesMax, " are allowed");
  }
  if (header_bytes > bytes.size()) {
    return Damaged("it ends within its header of ", header_bytes,
                   " bytes: truncated");
  }
  const absl::string_view data = bytes.substr(header_bytes);
  absl::StatusOr<std::vector<Entry>> entries =
      ParseHeader(bytes.substr(0, header_bytes), data.size());
  if (!entries.ok()) return entries.status();

  Weights weights;
  for (Entry& entry : *entries) {
    WeightTensor tensor;
    tensor.shape = std::move(entry.shape);
    const uint64_t size = entry.end - entry.begin;
    tensor.values.resize(size / sizeof(float));
    if (size > 0) {
      std::memcpy(tensor.values.data(), data.data() + entry.begin, size);
    }
    for (const float value : tensor.values) {
      if (!std::isfinite(value)) {
        return Damaged("tensor ", Quoted(entry.name), " has a value that is ",
                       "not finite");
      }
    }
    weights.emplace(std::move(entry.name), std::move(tensor));
  }
  return weights;
}

std::string SerializeSafetensors(const Weights& weights) {
  std::string header = "{";
  uint64_t offset = 0;
  absl::string_view separator;
  for (const auto& [name, tensor] : weights) {
    const uint64_t end = offset + tensor.values.size() * sizeof(float);
    absl::StrAppend(&header, separator, "\"", name,
                    "\":{\"dtype\":\"F32\",\"shape\":[",
                    absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[",
                    offset, ",", end, "]}");
    offset = end;
    separator = ",";
  }
  header += "}";
  // Data begins on a multiple of 8, as readers that map the file like it.
  header.append((8 - header.size() % 8) % 8, ' ');

  const uint64_t header_bytes = header.size();
  std::string file(kLengthBytes, '\0');
  std::memcpy(file.data(), &header_bytes, kLengthBytes);
  file += header;
  file.reserve(file.size() + offset);
  for (const auto& [name, tensor] : weights) {
    file.append(reinterpret_cast<const char*>(tensor.values.data()),
                tensor.values.size() * sizeof(float));
  }
  return file;
}

}  // namespace latticed
