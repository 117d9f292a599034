#include "core/wire/npy.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace latticed {
namespace {

constexpr absl::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kPrefixBytes = 10;  // magic, version, u16 length

absl::Status Damaged(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "not an .npy array that can be read here: ", what,
      "; save a C-order array of <f4, <f8, <i8, <u8 or |u1 with numpy.save"));
}

// The text between `'key':` and the next of `end`.
absl::StatusOr<absl::string_view> Field(absl::string_view header,
                                        absl::string_view key, char end) {
  const size_t at = header.find(absl::StrCat("'", key, "':"));
  if (at == absl::string_view::npos) {
    return Damaged(absl::StrCat("its header has no '", key, "'"));
  }
  header.remove_prefix(at + key.size() + 3);
  return absl::StripAsciiWhitespace(header.substr(0, header.find(end)));
}

absl::StatusOr<std::vector<int64_t>> ParseShape(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, "(")) {
    return Damaged("its shape is no tuple");
  }
  std::vector<int64_t> shape;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    part = absl::StripAsciiWhitespace(part);
    if (part.empty()) continue;
    int64_t extent;
    if (!absl::SimpleAtoi(part, &extent) || extent < 0) {
      return Damaged(absl::StrCat("its shape has the extent ",
                                  absl::CHexEscape(part.substr(0, 32))));
    }
    shape.push_back(extent);
  }
  return shape;
}

}  // namespace

int64_t NpyItemBytes(absl::string_view descr) {
  if (descr == "<f4") return 4;
  if (descr == "<f8" || descr == "<i8" || descr == "<u8") return 8;
  if (descr == "|u1") return 1;
  return 0;
}

std::string NpyHeader(absl::string_view descr, absl::Span<const int64_t> shape,
                      int64_t bytes_min) {
  std::string extents;
  for (const int64_t extent : shape) absl::StrAppend(&extents, extent, ", ");
  // A tuple of one keeps its comma.
  if (shape.size() > 1) extents.resize(extents.size() - 2);
  std::string dict = absl::StrCat(
      "{'descr': '", descr, "', 'fortran_order': False, 'shape': (",
      absl::StripTrailingAsciiWhitespace(extents), "), }");
  size_t bytes = kPrefixBytes + dict.size() + 1;
  if (bytes_min > 0) bytes = std::max(bytes, static_cast<size_t>(bytes_min));
  bytes = (bytes + 63) / 64 * 64;
  dict.resize(bytes - kPrefixBytes - 1, ' ');
  dict.push_back('\n');
  const char prefix[] = {'\x01', '\x00', static_cast<char>(dict.size() & 0xff),
                         static_cast<char>(dict.size() >> 8)};
  return absl::StrCat(kMagic, absl::string_view(prefix, 4), dict);
}

absl::StatusOr<NpyLayout> ParseNpyHeader(absl::string_view file) {
  if (file.size() < kPrefixBytes || !absl::StartsWith(file, kMagic)) {
    return Damaged("it does not start like one");
  }
  if (file[6] != 1 || file[7] != 0) return Damaged("format is not 1.0");
  const size_t header_bytes = static_cast<unsigned char>(file[8]) |
                              static_cast<unsigned char>(file[9]) << 8;
  if (file.size() < kPrefixBytes + header_bytes) {
    return Damaged("it ends within its header");
  }
  const absl::string_view header = file.substr(kPrefixBytes, header_bytes);

  NpyLayout layout;
  layout.header_bytes = static_cast<int64_t>(kPrefixBytes + header_bytes);
  absl::StatusOr<absl::string_view> descr = Field(header, "descr", ',');
  if (!descr.ok()) return descr.status();
  layout.descr =
      std::string(absl::StripPrefix(absl::StripSuffix(*descr, "'"), "'"));
  uint64_t bytes = static_cast<uint64_t>(NpyItemBytes(layout.descr));
  if (bytes == 0) {
    return Damaged(absl::StrCat("its type is ",
                                absl::CHexEscape(layout.descr.substr(0, 32))));
  }
  absl::StatusOr<absl::string_view> order = Field(header, "fortran_order", ',');
  if (!order.ok()) return order.status();
  if (*order != "False") return Damaged("it is in Fortran order");

  absl::StatusOr<absl::string_view> shape_text = Field(header, "shape", ')');
  if (!shape_text.ok()) return shape_text.status();
  absl::StatusOr<std::vector<int64_t>> shape = ParseShape(*shape_text);
  if (!shape.ok()) return shape.status();
  layout.shape = *std::move(shape);
  for (const int64_t extent : layout.shape) {
    const uint64_t factor = static_cast<uint64_t>(extent);
    if (factor != 0 && bytes > std::numeric_limits<int64_t>::max() / factor) {
      return Damaged("its shape overflows");
    }
    bytes *= factor;
  }
  layout.data_bytes = static_cast<int64_t>(bytes);
  return layout;
}

absl::StatusOr<NpyArray> ParseNpy(absl::string_view file) {
  absl::StatusOr<NpyLayout> layout = ParseNpyHeader(file);
  if (!layout.ok()) return layout.status();
  const absl::string_view data =
      file.substr(static_cast<size_t>(layout->header_bytes));
  if (static_cast<uint64_t>(layout->data_bytes) != data.size()) {
    return Damaged(absl::StrCat("its shape asks for ", layout->data_bytes,
                                " bytes of data, the file has ", data.size()));
  }
  return NpyArray{std::move(layout->descr), std::move(layout->shape),
                  std::string(data)};
}

}  // namespace latticed
