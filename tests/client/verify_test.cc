// latticectl verify: a file holds what its provenance says, to the byte.
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "core/wire/npy_reader.h"
#include "gmock/gmock.h"
#include "tests/client/toy_process.h"

namespace latticed {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using testing::Process;
using testing::ToyProcess;

class Verify : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = std::make_unique<ToyProcess>(
        repository_.path(), state_.File("key"),
        std::vector<std::string>{"scale=1.3", "nan_every=37"});
  }
  Finished Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), LATTICECTL);
    arguments.push_back("--server");
    arguments.push_back(server_->target());
    Process process(arguments, log_.path());
    return process.Wait();
  }
  // What verify says of `file` after the byte `at` of array `name`'s row `row`
  // has been changed; the file is put right again.
  Finished Tampered(const std::string& file, const std::string& name,
                    int64_t row, int64_t at = 1) {
    const auto reader = NpyReader::Open(file);
    EXPECT_TRUE(reader.ok());
    const NpyReader::Array& array = *(*reader)->Find(name);
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    const int64_t offset = array.offset + row * array.row_bytes + at;
    stream.seekg(offset);
    const char was = static_cast<char>(stream.get());
    stream.seekp(offset);
    stream.put(static_cast<char>(was ^ 1));
    stream.flush();
    Finished finished = Run({"verify", file});
    stream.seekp(offset);
    stream.put(was);
    return finished;
  }

  TemporaryDirectory repository_, state_, log_, work_;
  std::unique_ptr<ToyProcess> server_;
};

TEST_F(Verify, AFileOfDrawsIsHeldToEveryByte) {
  const std::string file = work_.File("s.npz");
  ASSERT_EQ(Run({"sample", "--model", "toy", "--count", "5000", "--first_index",
                 "12345678901", "--output", file})
                .code,
            0);
  const Finished good = Run({"verify", file});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("5000 draws of toy version 1"));
  EXPECT_EQ(Run({"verify", file, "--blocks", "7"}).code, 0);

  // Row 100 is past two that are left out: 12345678901 mod 37 = 31, so the
  // draws at offsets 5, 42, 79 are not finite.
  for (const char* name : {"phi", "log_q", "action"}) {
    const Finished bad = Tampered(file, name, 100);
    EXPECT_EQ(bad.code, 4) << bad.err;
    EXPECT_THAT(bad.err,
                AllOf(HasSubstr(name), HasSubstr("index 12345679004 is not")));
  }
  EXPECT_EQ(Tampered(file, "phi", 0, 0).code, 4);
  EXPECT_EQ(Tampered(file, "action", 4800, 7).code, 4);
  EXPECT_EQ(Run({"verify", file}).code, 0);
}

TEST_F(Verify, RandomBlocksFindAWrongStream) {
  const std::string file = work_.File("s.npz");
  ASSERT_EQ(Run({"sample", "--model", "toy", "--count", "3000", "--output",
                 file, "--stream", "a"})
                .code,
            0);
  std::stringstream text;
  text << std::ifstream(file + ".json").rdbuf();
  std::string json = text.str();
  ASSERT_EQ(Run({"verify", file, "--blocks", "2"}).code, 0);
  // The draws of index k are now said to be those of k + 1.
  json = absl::StrReplaceAll(
      json, {{"\"first_index\":\"0\"", "\"first_index\":\"1\""}});
  std::ofstream(file + ".json") << json;
  const Finished bad = Run({"verify", file, "--blocks", "2"});
  EXPECT_EQ(bad.code, 4) << bad.err;
}

TEST_F(Verify, AnNpyHoldsPhiAlone) {
  const std::string file = work_.File("s.npy");
  ASSERT_EQ(
      Run({"sample", "--model", "toy", "--count", "300", "--output", file})
          .code,
      0);
  EXPECT_EQ(Run({"verify", file}).code, 0);
  EXPECT_EQ(Tampered(file, "phi", 200).code, 4);
}

TEST_F(Verify, ChainsAreRunAgain) {
  const std::string file = work_.File("a.npz");
  const std::string rest = work_.File("b.npz");
  ASSERT_EQ(Run({"chain", "--model", "toy", "--steps", "1000", "--thinning",
                 "3", "--output", file})
                .code,
            0);
  ASSERT_EQ(Run({"chain", "--token_file", file + ".token", "--steps", "700",
                 "--output", rest})
                .code,
            0);
  for (const std::string& part : {file, rest}) {
    const Finished good = Run({"verify", part});
    EXPECT_EQ(good.code, 0) << good.err;
    for (const char* name : {"phi", "log_q", "step", "index", "accept"}) {
      const Finished bad = Tampered(part, name, 150, 0);
      EXPECT_EQ(bad.code, 4) << bad.err;
      EXPECT_THAT(bad.err, AllOf(HasSubstr(name), HasSubstr("step")));
    }
  }
  EXPECT_EQ(Run({"verify", file, "--blocks", "3"}).code, 1);
}

TEST_F(Verify, WhatCannotBeSaidHereSaysWhy) {
  const std::string file = work_.File("s.npz");
  ASSERT_EQ(
      Run({"sample", "--model", "toy", "--count", "300", "--output", file})
          .code,
      0);
  EXPECT_EQ(Run({"verify"}).code, 1);
  EXPECT_EQ(Run({"verify", work_.File("none.npz")}).code, 1);

  std::stringstream text;
  text << std::ifstream(file + ".json").rdbuf();
  const auto with = [&](const std::string& from, const std::string& to) {
    const std::string changed = absl::StrReplaceAll(text.str(), {{from, to}});
    EXPECT_NE(changed, text.str());
    std::ofstream(file + ".json") << changed;
    const Finished finished = Run({"verify", file});
    EXPECT_EQ(finished.code, 1);
    return finished.err;
  };
  EXPECT_THAT(with("float32 tile=16 toy cpu", "float32 tile=16 toy avx9"),
              HasSubstr("NUMERICS_MISMATCH"));
  EXPECT_THAT(with("\"provenance\"", "\"other\""), HasSubstr("no provenance"));
  std::ofstream(file + ".json") << "{";
  EXPECT_EQ(Run({"verify", file}).code, 1);
  std::ofstream(file + ".json") << text.str();
  EXPECT_EQ(Run({"verify", file}).code, 0);

  // Two versions on, the digest is gone.
  for (const char* version : {"2", "3"}) {
    server_->Kill();
    server_->Start({absl::StrCat("scale=1.3", version)});
    bool live = false;
    for (int i = 0; i < 200 && !live; ++i) {
      live = absl::StrContains(Run({"models", "--json"}).out,
                               absl::StrCat("\"version\": ", version));
    }
    ASSERT_TRUE(live) << version;
  }
  const Finished retired = Run({"verify", file});
  EXPECT_EQ(retired.code, 1);
  EXPECT_THAT(retired.err, HasSubstr("not loaded"));
  server_->Kill();
  EXPECT_EQ(Run({"verify", file, "--retry_for", "0.1"}).code, 2);
}

}  // namespace
}  // namespace latticed
