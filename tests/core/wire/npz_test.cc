#include <cstring>
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
using ::testing::UnorderedElementsAre;

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

uint32_t Get(const std::string& bytes, size_t at, int count) {
  uint32_t value = 0;
  for (int i = count - 1; i >= 0; --i) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

// CRC-32 of zip, a bit at a time.
uint32_t PlainCrc32(const std::string& bytes) {
  uint32_t crc = ~uint32_t{0};
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

struct Entry {
  std::string name;
  std::string data;
};

// Reads the archive the way zip readers do: from the end, through the central
// directory, checking the local headers against it.
std::vector<Entry> Unzip(const std::string& zip) {
  std::vector<Entry> entries;
  const size_t end = zip.size() - 22;
  EXPECT_EQ(zip.substr(end, 4), "PK\x05\x06");
  const uint32_t count = Get(zip, end + 10, 2);
  EXPECT_EQ(Get(zip, end + 8, 2), count);
  EXPECT_EQ(Get(zip, end + 12, 4) + Get(zip, end + 16, 4), end);
  size_t at = Get(zip, end + 16, 4);
  for (uint32_t i = 0; i < count; ++i) {
    EXPECT_EQ(zip.substr(at, 4), "PK\x01\x02");
    EXPECT_EQ(Get(zip, at + 10, 2), 0u);  // stored
    const uint32_t crc = Get(zip, at + 16, 4);
    const uint32_t size = Get(zip, at + 24, 4);
    const uint32_t name_size = Get(zip, at + 28, 2);
    const size_t local = Get(zip, at + 42, 4);
    EXPECT_EQ(zip.substr(local, 4), "PK\x03\x04");
    EXPECT_EQ(zip.substr(local + 4, 26), zip.substr(at + 6, 26));
    Entry entry;
    entry.name = zip.substr(at + 46, name_size);
    EXPECT_EQ(zip.substr(local + 30, name_size), entry.name);
    entry.data = zip.substr(local + 30 + name_size, size);
    EXPECT_EQ(PlainCrc32(entry.data), crc);
    entries.push_back(entry);
    at += 46 + name_size + Get(zip, at + 30, 2) + Get(zip, at + 32, 2);
  }
  EXPECT_EQ(at, end);
  return entries;
}

TEST(PackNpz, KeepsEveryArrayByteForByte) {
  const TemporaryDirectory directory;
  const std::string a = NpyHeader("|u1", {3}) + "abc";
  // Longer than the copy buffer.
  const std::string b = NpyHeader("|u1", {3000000}) + std::string(3000000, 'b');
  ASSERT_THAT(WriteFileAtomically(directory.File("a.npy"), a), IsOk());
  ASSERT_THAT(WriteFileAtomically(directory.File("b.npy"), b), IsOk());
  ASSERT_THAT(
      PackNpz(directory.File("all.npz"), {{"log_q", directory.File("a.npy")},
                                          {"phi", directory.File("b.npy")}}),
      IsOk());
  const std::vector<Entry> entries = Unzip(Read(directory.File("all.npz")));
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].name, "log_q.npy");
  EXPECT_EQ(entries[0].data, a);
  EXPECT_EQ(entries[1].name, "phi.npy");
  EXPECT_EQ(entries[1].data, b);
  EXPECT_THAT(directory.List(),
              UnorderedElementsAre("a.npy", "b.npy", "all.npz"));
}

TEST(PackNpz, WritesAnEmptyArchive) {
  const TemporaryDirectory directory;
  ASSERT_THAT(PackNpz(directory.File("none.npz"), {}), IsOk());
  EXPECT_TRUE(Unzip(Read(directory.File("none.npz"))).empty());
}

TEST(PackNpz, LeavesNothingBehindWhenAnArrayIsMissing) {
  const TemporaryDirectory directory;
  ASSERT_THAT(WriteFileAtomically(directory.File("a.npy"), "a"), IsOk());
  EXPECT_THAT(
      PackNpz(directory.File("all.npz"),
              {{"a", directory.File("a.npy")}, {"b", directory.File("b.npy")}}),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("b.npy")));
  EXPECT_THAT(directory.List(), ElementsAre("a.npy"));
}

}  // namespace
}  // namespace latticed
