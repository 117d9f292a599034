#include "core/checkpoint/weights.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/checkpoint/scratch.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

std::string File(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, '\0');
}

std::string Tensor(const std::string& name, const std::string& shape,
                   uint64_t begin, uint64_t end) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"F32\",\"shape\":", shape,
                      ",\"data_offsets\":[", begin, ",", end, "]}");
}

void ExpectDamage(const std::string& file, const std::string& what) {
  const absl::StatusOr<Weights> weights = ParseSafetensors(file);
  EXPECT_TRUE(absl::IsDataLoss(weights.status())) << weights.status();
  EXPECT_THAT(std::string(weights.status().message()), HasSubstr(what));
}

void ExpectHeaderDamage(const std::string& header, size_t data_bytes,
                        const std::string& what) {
  ExpectDamage(File(header, data_bytes), what);
}

TEST(Safetensors, RoundTripKeepsShapesAndBits) {
  Weights weights = TinyWeights();
  weights["tiny"] = {{1}, {std::numeric_limits<float>::denorm_min()}};
  weights["empty"] = {{3, 0}, {}};  // gates that a flow does not have
  weights["zero"] = {{2}, {0.0F, -0.0F}};
  const std::string file = SerializeSafetensors(weights);
  const absl::StatusOr<Weights> read = ParseSafetensors(file);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), weights.size());
  for (const auto& [name, tensor] : weights) {
    const WeightTensor& other = read->at(name);
    EXPECT_EQ(other.shape, tensor.shape) << name;
    ASSERT_EQ(other.values.size(), tensor.values.size()) << name;
    const auto bits = [](float value) {
      return std::bit_cast<uint32_t>(value);
    };
    EXPECT_TRUE(std::ranges::equal(other.values, tensor.values, {}, bits, bits))
        << name;
  }
  EXPECT_EQ(SerializeSafetensors(*read), file);
}

TEST(Safetensors, HasTheLayoutOfTheFormat) {
  const std::string file = SerializeSafetensors({{"a", {{1}, {1.0F}}}});
  const std::string header =
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  EXPECT_EQ(length % 8, 0U);
  EXPECT_EQ(file.substr(8, header.size()), header);
  EXPECT_EQ(file.substr(8 + length), std::string("\0\0\x80\x3f", 4));
}

TEST(Safetensors, MetadataIsIgnored) {
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," +
                             Tensor("a", "[2]", 0, 8) + "}  ";
  const absl::StatusOr<Weights> weights = ParseSafetensors(File(header, 8));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->size(), 1U);
}

TEST(Safetensors, EveryTruncationIsDetected) {
  const std::string file = SerializeSafetensors(TinyWeights());
  for (size_t size = 0; size < file.size(); ++size) {
    const absl::StatusOr<Weights> weights =
        ParseSafetensors(absl::string_view(file).substr(0, size));
    EXPECT_TRUE(absl::IsDataLoss(weights.status())) << "at " << size;
  }
  ExpectDamage(file + '\0', "truncated or padded");
}

TEST(Safetensors, HugeNumbersAreRefusedBeforeMemoryIsTaken) {
  for (const char* shape :
       {"[9223372036854775808]", "[9223372036854775808,2]", "[1e300]",
        "[4294967296,4294967296]", "[1073741824,1073741824,1073741824]", "[0]",
        "[0,9223372036854775808]", "[-1]", "[1.5]", "[true]", "[\"2\"]",
        "[null]", "2", "{}"}) {
    ExpectHeaderDamage("{" + Tensor("a", shape, 0, 8) + "}", 8, "\"a\"");
  }
  ExpectHeaderDamage("{" + Tensor("a", "[1,1,1,1,1,1,1,1,2]", 0, 8) + "}", 8,
                     "8 dimensions");
}

TEST(Safetensors, TensorsMustTileTheData) {
  ExpectHeaderDamage(
      "{" + Tensor("a", "[2]", 0, 8) + "," + Tensor("b", "[2]", 4, 12) + "}",
      12, "overlap");
  ExpectHeaderDamage(
      "{" + Tensor("a", "[2]", 0, 8) + "," + Tensor("b", "[2]", 0, 8) + "}", 16,
      "overlap");
  ExpectHeaderDamage(
      "{" + Tensor("a", "[2]", 0, 8) + "," + Tensor("b", "[2]", 12, 20) + "}",
      20, "gaps");
  ExpectHeaderDamage("{" + Tensor("a", "[2]", 4, 12) + "}", 12, "gaps");
  ExpectHeaderDamage("{" + Tensor("a", "[2]", 0, 8) + "}", 12, "padded");
  ExpectHeaderDamage("{" + Tensor("a", "[2]", 0, 8) + "}", 4, "\"a\"");
  ExpectHeaderDamage("{" + Tensor("a", "[2]", 8, 0) + "}", 8, "\"a\"");
  ExpectHeaderDamage("{" + Tensor("a", "[3]", 0, 8) + "}", 8, "12 bytes");
}

TEST(Safetensors, DuplicateNamesAreRefused) {
  ExpectHeaderDamage(
      "{" + Tensor("a", "[2]", 0, 8) + "," + Tensor("a", "[2]", 0, 8) + "}", 8,
      "");
}

TEST(Safetensors, EntriesAreNothingButTensors) {
  for (const char* header :
       {"", "[]", "1", "{", "{}{}", "{\"a\":1}", "{\"a\":{}}", "{\"a\":null}",
        "{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],"
        "\"x\":1}}",
        "{\"\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"../a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"\\u0000\":{\"dtype\":\"F32\",\"shape\":[2],"
        "\"data_offsets\":[0,8]}}"}) {
    ExpectHeaderDamage(header, 8, "weights file");
  }
  ExpectHeaderDamage("{}", 0, "no tensors");
}

TEST(Safetensors, HeadersAreBounded) {
  std::string header = "{";
  for (int i = 0; i < 4097; ++i) {
    absl::StrAppend(&header, i ? "," : "",
                    Tensor(absl::StrCat("t", i), "[1]", 4 * i, 4 * i + 4));
  }
  ExpectHeaderDamage(header + "}", size_t{4} * 4097, "4097 tensors");

  std::string many = "{";
  for (int i = 0; i < 1000000; ++i) absl::StrAppend(&many, "\"", i, "\":1,");
  ExpectHeaderDamage(many + "\"x\":1}", 8, "1048576");

  std::string deep = "{\"a\":";
  deep.append(500000, '[');
  ExpectHeaderDamage(deep, 8, "no JSON");

  std::string lie = File("{}", 0);
  lie[7] = '\x7f';
  ExpectDamage(lie, "1048576");
}

TEST(Safetensors, NonFiniteValuesNameTheTensor) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    Weights weights = TinyWeights();
    weights["khat"].values[4] = bad;
    ExpectDamage(SerializeSafetensors(weights), "\"khat\"");
  }
}

// Under the address sanitizer this is where a missing bound would show.
TEST(Safetensors, RandomDamageNeverCrashes) {
  const std::string file = SerializeSafetensors(TinyWeights());
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = file;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) {
      damaged[random() % damaged.size()] ^= static_cast<char>(random());
    }
    const absl::StatusOr<Weights> weights = ParseSafetensors(damaged);
    if (!weights.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(weights.status()));
    }
  }
}

}  // namespace
}  // namespace latticed
