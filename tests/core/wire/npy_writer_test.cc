#include "core/wire/npy_writer.h"

#include <fstream>
#include <iterator>
#include <string>

#include "core/wire/block.h"
#include "core/wire/npy.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"

namespace latticed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(NpyWriter, CountsRowsAsTheyCome) {
  const TemporaryDirectory directory;
  auto writer = NpyWriter::Create(directory.File("a.npy"), "<f4", {2, 3});
  ASSERT_THAT(writer, IsOk());
  std::vector<float> rows(5 * 6);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
  const absl::string_view bytes = BytesOf(absl::MakeConstSpan(rows));
  // Splits that do not care about rows.
  ASSERT_THAT((*writer)->Append(bytes.substr(0, 31)), IsOk());
  ASSERT_THAT((*writer)->Append(bytes.substr(31)), IsOk());
  EXPECT_EQ((*writer)->rows(), 5);
  EXPECT_THAT(directory.List(), ::testing::Not(::testing::Contains("a.npy")));
  ASSERT_THAT((*writer)->Close(), IsOk());

  EXPECT_THAT(directory.List(), ElementsAre("a.npy"));
  const auto array = ParseNpy(Read(directory.File("a.npy")));
  ASSERT_THAT(array, IsOk());
  EXPECT_EQ(array->descr, "<f4");
  EXPECT_THAT(array->shape, ElementsAre(5, 2, 3));
  EXPECT_EQ(array->bytes, bytes);
}

TEST(NpyWriter, WritesAnEmptyArray) {
  const TemporaryDirectory directory;
  auto writer = NpyWriter::Create(directory.File("a.npy"), "<f8", {});
  ASSERT_THAT(writer, IsOk());
  ASSERT_THAT((*writer)->Close(), IsOk());
  const auto array = ParseNpy(Read(directory.File("a.npy")));
  ASSERT_THAT(array, IsOk());
  EXPECT_THAT(array->shape, ElementsAre(0));
}

TEST(NpyWriter, LeavesNothingWhenAbandoned) {
  const TemporaryDirectory directory;
  {
    auto writer = NpyWriter::Create(directory.File("a.npy"), "<f8", {});
    ASSERT_THAT(writer, IsOk());
    ASSERT_THAT((*writer)->Append("12345678"), IsOk());
  }
  EXPECT_THAT(directory.List(), IsEmpty());
}

TEST(NpyWriter, RefusesToEndWithinARow) {
  const TemporaryDirectory directory;
  {
    auto writer = NpyWriter::Create(directory.File("a.npy"), "<f8", {2});
    ASSERT_THAT(writer, IsOk());
    ASSERT_THAT((*writer)->Append("123456789"), IsOk());
    EXPECT_THAT((*writer)->Close(),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("9 of 16 bytes")));
  }
  EXPECT_THAT(directory.List(), IsEmpty());
}

TEST(NpyWriter, RefusesUnknownTypesExtentsAndPlaces) {
  const TemporaryDirectory directory;
  EXPECT_THAT(NpyWriter::Create(directory.File("a.npy"), "<c16", {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("<c16")));
  EXPECT_THAT(NpyWriter::Create(directory.File("a.npy"), "<f4", {4, 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("of 0")));
  EXPECT_THAT(NpyWriter::Create(directory.File("no/a.npy"), "<f4", {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/a.npy")));
  EXPECT_THAT(directory.List(), IsEmpty());
}

}  // namespace
}  // namespace latticed
