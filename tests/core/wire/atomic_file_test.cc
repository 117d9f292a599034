#include "core/wire/atomic_file.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

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

TEST(AtomicFile, AppearsAtCommitOnly) {
  const TemporaryDirectory directory;
  auto file = AtomicFile::Create(directory.File("a"));
  ASSERT_THAT(file, IsOk());
  ASSERT_THAT((*file)->Append("hello "), IsOk());
  ASSERT_THAT((*file)->Append("world"), IsOk());
  ASSERT_THAT((*file)->Overwrite(0, "J"), IsOk());
  EXPECT_EQ((*file)->size(), 11);
  EXPECT_FALSE(std::filesystem::exists(directory.File("a")));
  ASSERT_THAT((*file)->Commit(), IsOk());
  EXPECT_EQ(Read(directory.File("a")), "Jello world");
  EXPECT_THAT(directory.List(), ElementsAre("a"));
}

TEST(AtomicFile, LeavesNothingWhenAbandoned) {
  const TemporaryDirectory directory;
  {
    auto file = AtomicFile::Create(directory.File("a"));
    ASSERT_THAT(file, IsOk());
    ASSERT_THAT((*file)->Append("half"), IsOk());
    EXPECT_EQ(directory.List().size(), 1u);
  }
  EXPECT_THAT(directory.List(), IsEmpty());
}

TEST(AtomicFile, KeepsTheOldContentsUntilTheNewAreComplete) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("a");
  ASSERT_THAT(WriteFileAtomically(path, "old"), IsOk());
  {
    auto file = AtomicFile::Create(path);
    ASSERT_THAT(file, IsOk());
    ASSERT_THAT((*file)->Append("ne"), IsOk());
    EXPECT_EQ(Read(path), "old");
  }
  EXPECT_EQ(Read(path), "old");
  ASSERT_THAT(WriteFileAtomically(path, "new"), IsOk());
  EXPECT_EQ(Read(path), "new");
  EXPECT_THAT(directory.List(), ElementsAre("a"));
}

TEST(AtomicFile, HonoursTheUmask) {
  const TemporaryDirectory directory;
  const mode_t before = umask(027);
  ASSERT_THAT(WriteFileAtomically(directory.File("a"), ""), IsOk());
  umask(before);
  struct stat info;
  ASSERT_EQ(stat(directory.File("a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST(AtomicFile, SaysWhyAMissingDirectoryCannotBeWritten) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("missing/a.npy");
  EXPECT_THAT(AtomicFile::Create(path),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr(path), HasSubstr("No such file"),
                             HasSubstr("create the directory"))));
}

TEST(AtomicFile, RefusesADirectoryBeforeAnyWork) {
  const TemporaryDirectory directory;
  EXPECT_THAT(AtomicFile::Create(directory.path()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("is a directory")));
}

// Even root may not create files there.
TEST(AtomicFile, SaysWhyAnUnwritablePlaceCannotBeWritten) {
  const auto file = AtomicFile::Create("/proc/latticed-test");
  ASSERT_FALSE(file.ok());
  EXPECT_THAT(std::string(file.status().message()),
              HasSubstr("cannot write /proc/latticed-test"));
}

TEST(AtomicFile, CommitsOnce) {
  const TemporaryDirectory directory;
  auto file = AtomicFile::Create(directory.File("a"));
  ASSERT_THAT(file, IsOk());
  ASSERT_THAT((*file)->Commit(), IsOk());
  EXPECT_THAT((*file)->Commit(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(directory.List(), ElementsAre("a"));
}

}  // namespace
}  // namespace latticed
