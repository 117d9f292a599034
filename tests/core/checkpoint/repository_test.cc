#include "core/checkpoint/repository.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <random>

#include "absl/strings/str_cat.h"
#include "core/wire/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "latticed/build_id.h"
#include "tests/core/checkpoint/scratch.h"

namespace latticed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace fs = std::filesystem;

class RepositoryTest : public ::testing::Test {
 protected:
  RepositoryTest() {
    const absl::StatusOr<Checkpoint> published =
        Publish(root_, "phi4-l8", TinyManifest(), TinyWeights());
    EXPECT_TRUE(published.ok()) << published.status();
  }
  absl::Status Read() { return ReadVersion(root_, "phi4-l8", 1).status(); }
  std::string Path(const std::string& name) {
    return root_ + "/phi4-l8/1/" + name;
  }
  void ExpectDamage(const std::string& what) {
    const absl::Status status = Read();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }
  // Changes the manifest and makes its digest agree: a lie, not an accident.
  void Lie(const std::string& from, const std::string& to) {
    std::string json = ReadBytes(Path("manifest.json"));
    const size_t at = json.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    json.replace(at, from.size(), to);
    WriteBytes(Path("manifest.json"), json);
    WriteBytes(Path("manifest.sha256"), Sha256Hex(json) + "  manifest.json\n");
  }

  Scratch scratch_;
  std::string root_ = scratch_ / "models";
};

TEST_F(RepositoryTest, ReadsWhatWasPublished) {
  const absl::StatusOr<Checkpoint> read = ReadVersion(root_, "phi4-l8", 1);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->manifest.format(), 1U);
  EXPECT_EQ(read->manifest.model(), "phi4-l8");
  EXPECT_EQ(read->manifest.version(), 1);
  EXPECT_EQ(read->manifest.build(), kBuildId);
  EXPECT_EQ(read->manifest.quality().ess(), 0.9913725490196078);
  EXPECT_EQ(read->manifest.quality().draws(), 65536U);
  EXPECT_THAT(read->manifest.publish_time(),
              ::testing::MatchesRegex("20..-..-..T..:..:..[+]00:00"));
  EXPECT_EQ(read->digest, Sha256Hex(ReadBytes(Path("manifest.json"))));
  EXPECT_EQ(*ReadDigest(root_, "phi4-l8", 1), read->digest);
  ASSERT_EQ(read->weights.size(), TinyWeights().size());
  for (const auto& [name, tensor] : TinyWeights()) {
    EXPECT_EQ(read->weights.at(name).shape, tensor.shape);
    EXPECT_EQ(read->weights.at(name).values, tensor.values);
  }
}

TEST_F(RepositoryTest, ListsModelsAndVersionsOnly) {
  fs::create_directories(scratch_ / "models/Not_A_Model");
  WriteBytes(scratch_ / "models/file", "");
  fs::create_symlink("phi4-l8", scratch_ / "models/link");
  for (const char* name : {"2", "03", "-4", "5x", "reference", ".tmp-6"}) {
    fs::create_directories(scratch_ / absl::StrCat("models/phi4-l8/", name));
  }
  fs::create_symlink("1", scratch_ / "models/phi4-l8/7");
  EXPECT_THAT(*ListModels(root_), ElementsAre("phi4-l8"));
  EXPECT_THAT(*ListVersions(root_, "phi4-l8"), ElementsAre(1));
}

TEST_F(RepositoryTest, VersionsAscendAsNumbers) {
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(Publish(root_, "phi4-l8", TinyManifest(), TinyWeights()).ok());
  }
  EXPECT_THAT(*ListVersions(root_, "phi4-l8"),
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
}

TEST_F(RepositoryTest, MissingThingsAreNotFound) {
  EXPECT_TRUE(absl::IsNotFound(ListModels(scratch_ / "none").status()));
  EXPECT_TRUE(absl::IsNotFound(ListVersions(root_, "none").status()));
  EXPECT_TRUE(absl::IsNotFound(ReadVersion(root_, "none", 1).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadVersion(root_, "phi4-l8", 2).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadDigest(root_, "phi4-l8", 2).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadReference(root_, "phi4-l8").status()));
  EXPECT_THAT(std::string(ListModels(scratch_ / "none").status().message()),
              HasSubstr("/none"));
  fs::create_directories(scratch_ / "empty");
  EXPECT_THAT(*ListModels(scratch_ / "empty"), IsEmpty());
  WriteBytes(scratch_ / "file", "");
  EXPECT_TRUE(
      absl::IsFailedPrecondition(ListModels(scratch_ / "file").status()));
}

TEST_F(RepositoryTest, ModelNamesNeverLeaveTheRepository) {
  for (const char* name : {"", ".", "..", "../models/phi4-l8", "/etc", "a/b",
                           "Phi4", "4phi", "-a", "a_b", "a.b"}) {
    EXPECT_FALSE(ValidModelName(name)) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(ReadVersion(root_, name, 1).status()))
        << name;
    EXPECT_TRUE(absl::IsInvalidArgument(
        Publish(root_, name, TinyManifest(), TinyWeights()).status()))
        << name;
  }
  EXPECT_FALSE(ValidModelName(std::string("a\0b", 3)));
  EXPECT_TRUE(ValidModelName(std::string(63, 'a')));
  EXPECT_FALSE(ValidModelName(std::string(64, 'a')));
}

TEST_F(RepositoryTest, UnreadableRepositoryIsPermissionDenied) {
  ASSERT_EQ(chmod(root_.c_str(), 0), 0);
  const auto denied = [this] {
    return absl::IsPermissionDenied(ListModels(root_).status()) &&
           absl::IsPermissionDenied(Read());
  };
  if (geteuid() != 0) {
    EXPECT_TRUE(denied());
    chmod(root_.c_str(), 0755);
    return;
  }
  // Root may read anything: ask as somebody else, who can get that far.
  ASSERT_EQ(chmod(scratch_.root().c_str(), 0755), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    _exit(denied() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST_F(RepositoryTest, EverySingleBitFlipOfAManifestIsDetected) {
  for (const char* name : {"manifest.json", "manifest.sha256"}) {
    const std::string bytes = ReadBytes(Path(name));
    ASSERT_GT(bytes.size(), 70U);
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      std::string damaged = bytes;
      damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
      WriteBytes(Path(name), damaged);
      EXPECT_TRUE(absl::IsDataLoss(Read())) << name << " bit " << bit;
    }
    WriteBytes(Path(name), bytes);
  }
  EXPECT_TRUE(Read().ok());
}

TEST_F(RepositoryTest, FlipsOfWeightsAreDetected) {
  const std::string bytes = ReadBytes(Path("weights.safetensors"));
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = bytes;
    const size_t bit = random() % (8 * bytes.size());
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    WriteBytes(Path("weights.safetensors"), damaged);
    EXPECT_TRUE(absl::IsDataLoss(Read())) << "bit " << bit;
  }
  WriteBytes(Path("weights.safetensors"), bytes);
  EXPECT_TRUE(Read().ok());
}

TEST_F(RepositoryTest, EveryTruncationIsDetected) {
  for (const char* name :
       {"manifest.json", "manifest.sha256", "weights.safetensors"}) {
    const std::string bytes = ReadBytes(Path(name));
    for (size_t size = 0; size < bytes.size(); ++size) {
      WriteBytes(Path(name), bytes.substr(0, size));
      EXPECT_TRUE(absl::IsDataLoss(Read())) << name << " at " << size;
    }
    WriteBytes(Path(name), bytes + " ");
    EXPECT_TRUE(absl::IsDataLoss(Read())) << name << " longer";
    fs::remove(Path(name));
    EXPECT_TRUE(absl::IsDataLoss(Read())) << name << " missing";
    WriteBytes(Path(name), bytes);
  }
  EXPECT_TRUE(Read().ok());
}

TEST_F(RepositoryTest, LyingManifestsAreRefused) {
  const std::string json = ReadBytes(Path("manifest.json"));
  const std::string digest = ReadBytes(Path("manifest.sha256"));
  const std::pair<std::string, std::string> lies[] = {
      {"\"format\": 1", "\"format\": 2"},
      {"\"version\": \"1\"", "\"version\": \"2\""},
      {"\"model\": \"phi4-l8\"", "\"model\": \"phi4-l9\""},
      {"\"spec\"", "\"Spec\""},
      {"\"name\": \"weights.safetensors\"", "\"name\": \"../1/x\""},
      {"\"name\": \"weights.safetensors\"", "\"name\": \"/etc/passwd\""},
      {"\"name\": \"weights.safetensors\"", "\"name\": \"manifest.json\""},
      {"\"name\": \"weights.safetensors\"", "\"name\": \"\""},
      {"\"size_bytes\": \"", "\"size_bytes\": \"1844674407"},
      {"\"size_bytes\": \"", "\"size_bytes\": \"9"},
      {"\"size_bytes\": \"", "\"size_bytes\": \"-"},
      {"\"sha256\": \"", "\"sha256\": \"0"},
      {"\"files\"", "\"unknown_field\": 1, \"files\""},
      {"\"files\": [", "\"files\": [{\"name\": \"a\"},"},
      {"\"files\": [", "\"files\": \"none\", \"x\": ["},
  };
  for (const auto& [from, to] : lies) {
    Lie(from, to);
    ExpectDamage("phi4-l8/1");
    WriteBytes(Path("manifest.json"), json);
    WriteBytes(Path("manifest.sha256"), digest);
  }
  EXPECT_TRUE(Read().ok());
}

TEST_F(RepositoryTest, HugeManifestIsRefusedUnread) {
  fs::resize_file(Path("manifest.json"), uint64_t{1} << 40);
  ExpectDamage("1099511627776");
  EXPECT_FALSE(ReadDigest(root_, "phi4-l8", 1).ok());
}

TEST_F(RepositoryTest, OnlyRegularFilesAreOpened) {
  for (const char* name : {"manifest.json", "weights.safetensors"}) {
    const std::string bytes = ReadBytes(Path(name));
    const std::string outside = scratch_ / "outside";
    WriteBytes(outside, bytes);
    fs::remove(Path(name));
    fs::create_symlink(outside, Path(name));
    ExpectDamage(name);
    fs::remove(Path(name));
    ASSERT_EQ(mkfifo(Path(name).c_str(), 0644), 0);
    ExpectDamage(name);
    fs::remove(Path(name));
    fs::create_directory(Path(name));
    ExpectDamage(name);
    fs::remove(Path(name));
    fs::create_symlink("/dev/zero", Path(name));
    ExpectDamage(name);
    fs::remove(Path(name));
    WriteBytes(Path(name), bytes);
  }
  ASSERT_TRUE(Read().ok());
  fs::rename(scratch_ / "models/phi4-l8/1", scratch_ / "elsewhere");
  fs::create_symlink(scratch_ / "elsewhere", scratch_ / "models/phi4-l8/1");
  EXPECT_TRUE(absl::IsFailedPrecondition(Read())) << Read();
}

TEST_F(RepositoryTest, NonFiniteWeightsAreRefusedEvenWithTheRightDigest) {
  const std::string bytes = ReadBytes(Path("weights.safetensors"));
  std::string damaged = bytes;
  damaged.replace(damaged.size() - 4, 4, std::string("\0\0\xc0\x7f", 4));
  WriteBytes(Path("weights.safetensors"), damaged);
  Lie(Sha256Hex(bytes), Sha256Hex(damaged));
  ExpectDamage("not finite");
}

class ReferenceTest : public ::testing::Test {
 protected:
  static v1::ReferenceManifest Manifest(uint64_t configurations) {
    v1::ReferenceManifest manifest;
    manifest.mutable_lattice()->add_extent(2);
    manifest.mutable_lattice()->add_extent(4);
    manifest.set_configurations(configurations);
    (*manifest.mutable_observables())["chi_2"].set_value(1.25);
    return manifest;
  }

  Scratch scratch_;
  std::string root_ = scratch_ / "models";
};

TEST_F(ReferenceTest, RoundTripAndReplacement) {
  for (const int n : {3, 5}) {
    std::vector<float> phi(8 * n);
    for (size_t i = 0; i < phi.size(); ++i) phi[i] = 0.5F * i - n;
    const absl::Status written =
        WriteReference(root_, "phi4-l8", Manifest(n), phi);
    ASSERT_TRUE(written.ok()) << written;
    const absl::StatusOr<Reference> read = ReadReference(root_, "phi4-l8");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->phi, phi);
    EXPECT_EQ(read->manifest.observables().at("chi_2").value(), 1.25);
  }
  // Nothing temporary is left behind.
  int entries = 0;
  for (const auto& entry : fs::directory_iterator(root_ + "/phi4-l8")) {
    EXPECT_EQ(entry.path().filename(), "reference");
    ++entries;
  }
  EXPECT_EQ(entries, 1);
}

TEST_F(ReferenceTest, ShapesMustAgree) {
  const std::vector<float> phi(8, 0.5F);
  EXPECT_TRUE(absl::IsInvalidArgument(
      WriteReference(root_, "phi4-l8", Manifest(2), phi)));
  EXPECT_FALSE(fs::exists(root_));
}

TEST_F(ReferenceTest, DamageIsDetected) {
  const std::vector<float> phi(16, 0.5F);
  ASSERT_TRUE(WriteReference(root_, "phi4-l8", Manifest(2), phi).ok());
  const std::string path = root_ + "/phi4-l8/reference/configurations.npy";
  const std::string bytes = ReadBytes(path);
  for (const size_t at : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[at] ^= 1;
    WriteBytes(path, damaged);
    EXPECT_TRUE(absl::IsDataLoss(ReadReference(root_, "phi4-l8").status()));
  }
}

}  // namespace
}  // namespace latticed
