// The parts of the command line that need no server.
#include <cmath>

#include "client/cli/flags.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/messages.h"
#include "client/cli/options.h"
#include "client/cli/output.h"
#include "client/cli/summary.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/statistics.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"

namespace latticed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Flags, CountsReadAsPeopleTypeThem) {
  uint64_t n = 0;
  EXPECT_TRUE(ParseCount("4096", &n) && n == 4096);
  EXPECT_TRUE(ParseCount("1_000_000", &n) && n == 1000000);
  EXPECT_TRUE(ParseCount("1e6", &n) && n == 1000000);
  EXPECT_TRUE(ParseCount("18446744073709551615", &n) && n == UINT64_MAX);
  for (const char* text : {"", "-1", "+1", " 1", "1.5", "1.5e0", "1e400",
                           "18446744073709551616", "0x10", "ten"}) {
    EXPECT_FALSE(ParseCount(text, &n)) << text;
  }
}

TEST(Flags, TakeBothSpellings) {
  FlagSet flags;
  std::string name;
  uint64_t count = 0;
  bool on = false;
  flags.Add("the_name", "NAME", "", &name);
  flags.Add("count", "N", "", &count);
  flags.AddSwitch("on", "", &on);
  EXPECT_THAT(flags.Parse({"--the-name=a=b", "--count", "7", "--on"}), IsOk());
  EXPECT_EQ(name, "a=b");
  EXPECT_EQ(count, 7u);
  EXPECT_TRUE(on);
}

TEST(Options, ActionsInShortAndInFull) {
  const auto phi4 = ParseAction("m2=-4,lambda=6.008");
  ASSERT_THAT(phi4, IsOk());
  EXPECT_EQ(phi4->phi4().latticed().lambda(), 6.008);
  EXPECT_EQ(ParseAction("m2=1")->free_field().mass_squared(), 1);
  EXPECT_EQ(ParseAction("phi4 { hopping { kappa: 0.2 lambda: 1 } }")
                ->phi4()
                .hopping()
                .kappa(),
            0.2);
  for (const char* text :
       {"", "m2", "m2=x", "lambda=1", "mass=1", "phi4 { nonsense { } }", "{"}) {
    EXPECT_THAT(ParseAction(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)))
        << text;
  }
}

TEST(Options, LatticesAreTwoExtents) {
  EXPECT_THAT(ParseLattice("8x12")->extent(), ElementsAre(8, 12));
  for (const char* text : {"", "8", "8x", "1x8", "8x257", "8x8x8", "8*8"}) {
    EXPECT_THAT(ParseLattice(text),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

TEST(Options, UpdatesOfChains) {
  const auto cluster = ParseUpdate("cluster,every=100,width=0.5");
  ASSERT_THAT(cluster, IsOk());
  EXPECT_EQ(cluster->interval(), 100u);
  EXPECT_EQ(cluster->repeats(), 0u);
  EXPECT_EQ(cluster->cluster().width(), 0.5);
  const auto hmc = ParseUpdate("hmc,repeat=2,steps=20,length=1.5,every=7");
  ASSERT_THAT(hmc, IsOk());
  EXPECT_EQ(hmc->interval(), 7u);
  EXPECT_EQ(hmc->repeats(), 2u);
  EXPECT_EQ(hmc->hmc().steps(), 20u);
  EXPECT_EQ(hmc->hmc().length(), 1.5);
  for (const char* text :
       {"", "cluster", "heatbath,every=1", "cluster,every=0",
        "cluster,every=1,steps=3", "hmc,every=1,width=2", "hmc,every=x",
        "hmc,every=1,length=0", "cluster,every=1,"}) {
    EXPECT_THAT(ParseUpdate(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)))
        << text;
  }
}

TEST(Format, ErrorsHaveTwoDigits) {
  const auto text = [](double value, double error) {
    const ValueAndError t = Format({value, error});
    return t.value + " " + t.error;
  };
  EXPECT_EQ(text(1.0631168, 0.0004879), "1.06312 0.00049");
  EXPECT_EQ(text(25.4, 0.31), "25.40 0.31");
  EXPECT_EQ(text(1234.5, 120), "1234 120");
  EXPECT_EQ(text(0.5, 0), "0.5 0");
  EXPECT_EQ(text(0.5, INFINITY), "0.5 inf");
}

TEST(Format, RatesAndTimes) {
  EXPECT_EQ(FormatRate(3.14159), "3.14");
  EXPECT_EQ(FormatRate(1234567), "1 234 567");
  EXPECT_EQ(FormatSeconds(0.5), "0.50 s");
  EXPECT_EQ(FormatSeconds(192), "3 min 12 s");
  EXPECT_EQ(FormatSeconds(7260), "2 h 01 min");
}

TEST(Json, QuotesAndNonNumbers) {
  JsonWriter json;
  json.BeginObject().Key("a\"b").String("x\n\\").Key("n").Number(NAN);
  json.Key("l").BeginArray().Integer(1).Integer(2).EndArray();
  json.Key("e").BeginObject().EndObject().EndObject();
  EXPECT_EQ(json.text(),
            "{\n  \"a\\\"b\": \"x\\u000a\\\\\",\n  \"n\": null,\n  \"l\": [\n"
            "    1,\n    2\n  ],\n  \"e\": {}\n}");
}

TEST(Output, DestroyedBeforeCommitLeavesNothing) {
  TemporaryDirectory directory;
  {
    auto output = ArrayOutput::Prepare(directory.File("a.npz"), false);
    ASSERT_THAT(output, IsOk());
    ASSERT_THAT((*output)->Open({{"phi", "<f4", {2}}}), IsOk());
    ASSERT_THAT((*output)->Append(0, "12345678"), IsOk());
  }
  EXPECT_THAT(directory.List(), IsEmpty());
}

// Draws of a Gaussian r: E_r of anything can be had exactly, so the summary's
// reweighting is switched off by setting S = -log q.
TEST(Summary, OfEquallyWeightedDrawsIsPlainStatistics) {
  constexpr int kDraws = 4096;
  DrawSummary summary(testing::kLength, testing::kLength);
  DrawBlock block;
  block.count = kDraws;
  const StreamId stream = NamedStream("summary");
  for (int i = 0; i < kDraws; ++i) {
    const testing::FakeDraw draw = testing::DrawOf(stream, i);
    block.phi.insert(block.phi.end(), draw.phi.begin(), draw.phi.end());
    block.log_q.push_back(draw.log_q);
    block.action.push_back(-draw.log_q + 0.25);  // a constant weight
  }
  summary.Add(block);
  const Summary result = summary.Result();
  EXPECT_EQ(result.measured, static_cast<uint64_t>(kDraws));
  std::map<std::string, Estimate> rows(result.rows.begin(), result.rows.end());
  EXPECT_NEAR(rows["ESS"].value, 1, 1e-12);
  EXPECT_NEAR(rows["acceptance"].value, 1, 1e-12);
  EXPECT_NEAR(rows["sigma2_per_site"].value, 0, 1e-12);
  EXPECT_NEAR(rows["log_Z"].value, -0.25, 1e-12);
  // Independent sites: chi_2 = V <M^2> = <phi^2> = kVariance, with relative
  // errors sqrt(2/n) and sqrt(2/(n V)); <phi_x phi_{x+mu}> = 0.
  EXPECT_THAT(rows["chi_2"].value,
              IsWithinErrors(testing::kVariance,
                             testing::kVariance * std::sqrt(2.0 / kDraws)));
  EXPECT_THAT(rows["phi2"].value,
              IsWithinErrors(testing::kVariance,
                             testing::kVariance *
                                 std::sqrt(2.0 / kDraws / testing::kSites)));
  EXPECT_THAT(rows["link_energy"].value,
              IsWithinErrors(0.0, rows["link_energy"].error));
}

TEST(Summary, MemoryIsBoundedAndTheTableSaysSo) {
  DrawSummary summary(2, 2, /*bytes_max=*/2000);
  DrawBlock block;
  block.count = 100;
  block.phi.assign(400, 0.5f);
  block.log_q.assign(100, 1);
  block.action.assign(100, 2);
  summary.Add(block);
  summary.Add(block);
  const Summary result = summary.Result();
  EXPECT_EQ(result.total, 200u);
  EXPECT_GE(result.measured, 2u);
  EXPECT_LT(result.measured, 40u);
  EXPECT_THAT(FormatSummary(result), HasSubstr("of 200"));
}

// Steps move, stay, move, stay, ...
TEST(Summary, OfAChainRepeatsWhatWasRejected) {
  ChainSummaryBuilder summary(2, 2);
  StepBlock block;
  block.steps = 200;
  block.accepted = 100;
  for (uint32_t i = 0; i < 200; ++i) {
    block.accept.push_back(i % 2 == 0);
    block.kept_step.push_back(i);
    block.row.push_back(i / 2);
  }
  const StreamId stream = NamedStream("chain");
  block.phi.resize(400);
  Normals(stream, 0, Purpose::kBaseDraw, absl::MakeSpan(block.phi));
  for (uint64_t i = 0; i < 100; ++i) {
    block.index.push_back(2 * i);
    block.log_q.push_back(0);
    block.action.push_back(1);
  }
  summary.Add(block);
  const Summary result = summary.Result();
  std::map<std::string, Estimate> rows(result.rows.begin(), result.rows.end());
  EXPECT_EQ(result.measured, 200u);
  EXPECT_EQ(rows["acceptance"].value, 0.5);
  EXPECT_NEAR(rows["action_per_site"].value, 0.25, 1e-12);
  // Pairs of equal values: rho(1) = 1/2, so tau_int = 1/2 + 1/2 = 1.
  EXPECT_THAT(rows["tau_int_chi_2"].value,
              IsWithinErrors(1.0, rows["tau_int_chi_2"].error));
}

TEST(Messages, ExitCodesSayWhoIsToAct) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("")), 1);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError("")), 1);
  EXPECT_EQ(ExitCodeOf(absl::FailedPreconditionError("")), 1);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("")), 2);
  EXPECT_EQ(ExitCodeOf(absl::ResourceExhaustedError("")), 2);
  EXPECT_EQ(ExitCodeOf(absl::InternalError("")), 4);
  EXPECT_EQ(ExitCodeOf(absl::DataLossError("")), 4);
  EXPECT_EQ(ExitCodeOf(absl::CancelledError("")), 130);
}

}  // namespace
}  // namespace latticed
