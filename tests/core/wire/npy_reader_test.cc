#include "core/wire/npy_reader.h"

#include <fstream>
#include <iterator>
#include <string>

#include "core/wire/npy.h"
#include "core/wire/npy_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"

namespace latticed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class NpyReaderTest : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& bytes) {
    std::ofstream(directory_.File(name), std::ios::binary) << bytes;
  }
  std::string Contents(const std::string& name) {
    std::ifstream file(directory_.File(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  absl::Status OpenStatus(const std::string& name) {
    return NpyReader::Open(directory_.File(name)).status();
  }
  // [3, 2] bytes "abcdef" and [2] doubles' bytes.
  void MakeNpz() {
    Write("a.npy", NpyHeader("|u1", {3, 2}) + "abcdef");
    Write("b.npy", NpyHeader("<f8", {2}) + "0123456789abcdef");
    ASSERT_TRUE(
        PackNpz(directory_.File("both.npz"), {{"a", directory_.File("a.npy")},
                                              {"b", directory_.File("b.npy")}})
            .ok());
  }

  TemporaryDirectory directory_;
};

TEST_F(NpyReaderTest, ReadsRowsOfAnNpy) {
  MakeNpz();
  const auto reader = NpyReader::Open(directory_.File("a.npy"));
  ASSERT_TRUE(reader.ok()) << reader.status();
  const NpyReader::Array* array = (*reader)->Find("phi");
  ASSERT_NE(array, nullptr);
  EXPECT_EQ(array->descr, "|u1");
  EXPECT_THAT(array->shape, ElementsAre(3, 2));
  EXPECT_EQ(*(*reader)->Rows(*array, 1, 2), "cdef");
  EXPECT_EQ(*(*reader)->Rows(*array, 3, 0), "");
}

TEST_F(NpyReaderTest, ReadsRowsOfAnNpz) {
  MakeNpz();
  const auto reader = NpyReader::Open(directory_.File("both.npz"));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->arrays().size(), 2);
  EXPECT_EQ(*(*reader)->Rows(*(*reader)->Find("a"), 0, 1), "ab");
  EXPECT_EQ(*(*reader)->Rows(*(*reader)->Find("b"), 1, 1), "89abcdef");
  EXPECT_EQ((*reader)->Find("c"), nullptr);
}

TEST_F(NpyReaderTest, WhatIsMissingSaysSo) {
  EXPECT_EQ(OpenStatus("none.npz").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenStatus("").code(), absl::StatusCode::kInvalidArgument);
}

// Every cut, and every byte changed: an error or an answer, never a crash. Cut
// files are always errors.
TEST_F(NpyReaderTest, DamageIsAnErrorOrHarmless) {
  MakeNpz();
  for (const char* name : {"a.npy", "both.npz"}) {
    const std::string whole = Contents(name);
    for (size_t size = 0; size < whole.size(); ++size) {
      Write("cut", whole.substr(0, size));
      EXPECT_EQ(OpenStatus("cut").code(), absl::StatusCode::kInvalidArgument)
          << name << " cut to " << size;
    }
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const char with : {'\x00', '\x7f', '\xff'}) {
        std::string changed = whole;
        changed[at] = with;
        Write("changed", changed);
        const auto reader = NpyReader::Open(directory_.File("changed"));
        if (!reader.ok()) continue;
        for (const auto& [key, array] : (*reader)->arrays()) {
          if (array.rows() < 1000) {
            (void)(*reader)->Rows(array, 0, array.rows());
          }
        }
      }
    }
  }
  EXPECT_THAT(OpenStatus("cut").message(), HasSubstr("uncompressed .npz"));
}

}  // namespace
}  // namespace latticed
