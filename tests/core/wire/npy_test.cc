#include "core/wire/npy.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

auto IsRefused(const std::string& why) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why));
}

// A header numpy might write, with any dictionary.
std::string File(const std::string& dict, const std::string& data) {
  std::string file("\x93NUMPY\x01\x00", 8);
  file.push_back(static_cast<char>(dict.size()));
  file.push_back(0);
  return file + dict + data;
}

// numpy 1.24: numpy.save(file, numpy.zeros((2, 3), numpy.float32)).
TEST(Npy, HeaderIsWhatNumpyWrites) {
  EXPECT_EQ(NpyHeader("<f4", {2, 3}),
            absl::StrCat(absl::string_view("\x93NUMPY\x01\x00\x76\x00", 10),
                         "{'descr': '<f4', 'fortran_order': False, 'shape': "
                         "(2, 3), }",
                         std::string(58, ' '), "\n"));
}

TEST(Npy, HeaderIsAMultipleOf64BytesAndAtLeastAsLongAsAsked) {
  for (const int64_t bytes_min : {0, 1, 64, 128, 129, 500}) {
    const std::string header = NpyHeader("<f8", {7}, bytes_min);
    EXPECT_EQ(header.size() % 64, 0u);
    EXPECT_GE(header.size(), static_cast<size_t>(bytes_min));
    EXPECT_EQ(header.back(), '\n');
    EXPECT_THAT(ParseNpy(header + std::string(56, 'x')), IsOk());
  }
}

TEST(Npy, ArraysOfEveryRankComeBack) {
  const auto scalar = ParseNpy(NpyHeader("<f8", {}) + "12345678");
  ASSERT_THAT(scalar, IsOk());
  EXPECT_THAT(scalar->shape, IsEmpty());
  EXPECT_EQ(scalar->bytes, "12345678");

  const auto row = ParseNpy(NpyHeader("|u1", {3}) + "abc");
  ASSERT_THAT(row, IsOk());
  EXPECT_EQ(row->descr, "|u1");
  EXPECT_THAT(row->shape, ElementsAre(3));

  const auto cube =
      ParseNpy(NpyHeader("<f4", {2, 1, 3}) + std::string(24, 'x'));
  ASSERT_THAT(cube, IsOk());
  EXPECT_EQ(cube->descr, "<f4");
  EXPECT_THAT(cube->shape, ElementsAre(2, 1, 3));

  const auto empty = ParseNpy(NpyHeader("<i8", {0, 5}));
  ASSERT_THAT(empty, IsOk());
  EXPECT_THAT(empty->shape, ElementsAre(0, 5));
  EXPECT_EQ(empty->bytes, "");
}

TEST(Npy, RefusesWhatItCannotReadAndSaysWhy) {
  EXPECT_THAT(ParseNpy(""), IsRefused("does not start like one"));
  EXPECT_THAT(ParseNpy("PK\x03\x04 a zip file"),
              IsRefused("does not start like one"));
  EXPECT_THAT(ParseNpy(std::string("\x93NUMPY\x02\x00\x76\x00\x00\x00", 12)),
              IsRefused("format"));
  EXPECT_THAT(ParseNpy(NpyHeader("<f8", {1}).substr(0, 60)),
              IsRefused("ends within its header"));
  EXPECT_THAT(ParseNpy(File("{'fortran_order': False, 'shape': (1,), }", "x")),
              IsRefused("has no 'descr'"));
  EXPECT_THAT(
      ParseNpy(File("{'descr': '>f8', 'fortran_order': False, 'shape': (), }",
                    "12345678")),
      IsRefused(">f8"));
  EXPECT_THAT(
      ParseNpy(File("{'descr': '|O', 'fortran_order': False, 'shape': (), }",
                    "12345678")),
      IsRefused("|O"));
  EXPECT_THAT(
      ParseNpy(File("{'descr': '<f8', 'fortran_order': True, 'shape': (), }",
                    "12345678")),
      IsRefused("Fortran"));
  EXPECT_THAT(
      ParseNpy(File("{'descr': '<f8', 'fortran_order': False, 'shape': 1, }",
                    "12345678")),
      IsRefused("no tuple"));
  EXPECT_THAT(
      ParseNpy(File("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
                    "12345678")),
      IsRefused("extent -1"));
}

TEST(Npy, RefusesAShapeThatDisagreesWithTheData) {
  const std::string header = NpyHeader("<f8", {2});
  EXPECT_THAT(ParseNpy(header + std::string(15, 'x')), IsRefused("16 bytes"));
  EXPECT_THAT(ParseNpy(header + std::string(17, 'x')), IsRefused("has 17"));
}

// 2^31 x 2^31 x 2^3 bytes: more than an int64, and 0 modulo 2^64.
TEST(Npy, RefusesAShapeThatOverflows) {
  const int64_t big = int64_t{1} << 31;
  EXPECT_THAT(ParseNpy(NpyHeader("<f8", {big, big})), IsRefused("overflows"));
}

}  // namespace
}  // namespace latticed
