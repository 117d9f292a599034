// latticectl as a process, against a real gRPC server with scripted faults.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/wire/block.h"
#include "core/wire/npy.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/client/process.h"
#include "tests/support/temporary_directory.h"

namespace latticed {
namespace {

using ::testing::AllOf;
using testing::DrawOf;
using testing::FakeServer;
using testing::Faults;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Process;
using ::testing::UnorderedElementsAre;

// The shortest decimal that reads back as the same double, as Python writes
// numbers between 1e-4 and 1e16.
std::string Shortest(double value) {
  char text[64];
  const auto end =
      std::to_chars(text, text + sizeof text, value, std::chars_format::fixed);
  return std::string(text, end.ptr);
}

class Latticectl : public ::testing::Test {
 protected:
  // With a server, `--server` is added.
  Finished Run(std::vector<std::string> arguments, const FakeServer* server) {
    return Start(std::move(arguments), server)->Wait();
  }
  std::unique_ptr<Process> Start(std::vector<std::string> arguments,
                                 const FakeServer* server) {
    arguments.insert(arguments.begin(), LATTICECTL);
    if (server != nullptr) {
      arguments.push_back("--server");
      arguments.push_back(server->target());
    }
    return std::make_unique<Process>(arguments, log_.path());
  }
  std::string File(const std::string& name) { return work_.File(name); }
  // Waits until a file whose path contains `name_part` has some bytes.
  void WaitForFile(const std::string& name_part) {
    const absl::Time until = absl::Now() + absl::Seconds(30);
    while (absl::Now() < until) {
      for (const auto& entry :
           std::filesystem::recursive_directory_iterator(work_.path())) {
        std::error_code ignored;
        if (entry.path().string().find(name_part) != std::string::npos &&
            entry.file_size(ignored) > 1000 && !ignored) {
          return;
        }
      }
      absl::SleepFor(absl::Milliseconds(10));
    }
    FAIL() << "no " << name_part << " appeared";
  }
  static std::string Contents(const std::string& path) {
    std::ostringstream contents;
    contents << std::ifstream(path, std::ios::binary).rdbuf();
    return contents.str();
  }
  static google::protobuf::Struct Json(const std::string& text) {
    google::protobuf::Struct json;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text, &json).ok())
        << text;
    return json;
  }
  // One line of Python with `a`, the loaded file; its output.
  Finished Numpy(const std::string& path, const std::string& code) {
    Process python(
        {"/usr/bin/python3", "-c",
         absl::StrCat("import numpy; a = numpy.load('", path, "'); ", code)},
        log_.path());
    return python.Wait();
  }

  TemporaryDirectory work_;
  TemporaryDirectory log_;
};

TEST_F(Latticectl, HelpNamesEveryExitCodeAndHasExamples) {
  const Finished help = Run({"--help"}, nullptr);
  EXPECT_EQ(help.code, 0);
  for (const char* code : {"  0 ", "  1 ", "  2 ", "  3 ", "  4 ", "  130 "}) {
    EXPECT_THAT(help.out, HasSubstr(code));
  }
  for (const char* command : {"models", "sample", "chain"}) {
    const Finished one = Run({command, "--help"}, nullptr);
    EXPECT_EQ(one.code, 0);
    EXPECT_THAT(one.out, AllOf(HasSubstr("Examples"), HasSubstr("--server")));
  }
}

TEST_F(Latticectl, BadUsageExitsWithOneAndSaysWhatIsAllowed) {
  struct Case {
    std::vector<std::string> arguments;
    const char* message;
  };
  const std::vector<Case> cases = {
      {{}, "a command is missing"},
      {{"draw"}, "unknown command 'draw'"},
      {{"sample", "--model", "gauss"}, "--count is REQUIRED and must be 1.."},
      {{"sample", "--model", "gauss", "--count", "0"}, "1..2^40, got 0"},
      {{"sample", "--count", "5"}, "--model is REQUIRED"},
      {{"sample", "--model", "gauss", "--count", "-5"}, "is not a count"},
      {{"sample", "--model", "gauss", "--count", "2e12"}, "1..2^40"},
      {{"sample", "--frobnicate", "3"}, "unknown flag --frobnicate; known"},
      {{"sample", "--count"}, "--count needs a value"},
      {{"sample", "--force=yes"}, "takes no value"},
      {{"models", "now"}, "unexpected argument 'now'"},
      {{"chain", "--model", "g", "--steps", "5", "--thinning", "0"},
       "--thinning must be"},
      {{"sample", "--model", "g", "--count", "5", "--stream", "a",
        "--stream_id", "00"},
       "give one of them"},
      {{"sample", "--model", "g", "--count", "5", "--stream_id", "xyz"},
       "24 hex digits"},
      {{"sample", "--model", "g", "--count", "5", "--expect_action", "4"},
       "--expect_action"},
      {{"sample", "--model", "g", "--count", "5", "--expect_lattice", "8"},
       "--expect_lattice"},
      {{"sample", "--model", "g", "--count", "5", "--server", "nowhere"},
       "HOST:PORT"},
      {{"sample", "--model", "g", "--count", "5", "--output", "draws.txt"},
       "must end in .npy or .npz"},
  };
  for (const Case& c : cases) {
    const Finished run = Run(c.arguments, nullptr);
    EXPECT_EQ(run.code, 1) << absl::StrJoin(c.arguments, " ");
    EXPECT_THAT(run.err, HasSubstr(c.message));
    EXPECT_THAT(run.out, IsEmpty());
  }
}

TEST_F(Latticectl, ModelsShowsWhatIsLive) {
  FakeServer server;
  const Finished table = Run({"models"}, &server);
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("gauss"), HasSubstr("4x4"),
                               HasSubstr("phi4 m2=1 lambda=0.1"),
                               HasSubstr("nothing live"),
                               HasSubstr("version 2 is REJECTED: weights."
                                         "safetensors is truncated")));
  const Finished json = Run({"models", "--json"}, &server);
  const auto models = Json(json.out).fields().at("models").list_value();
  ASSERT_EQ(models.values_size(), 2);
  EXPECT_EQ(
      models.values(1).struct_value().fields().at("digest").string_value(),
      FakeServer::Digest(1));
}

TEST_F(Latticectl, FlagsMayComeBeforeTheCommand) {
  FakeServer server;
  const Finished after = Run({"models"}, &server);
  const Finished before =
      Run({"--quiet", "--server", server.target(), "models"}, nullptr);
  EXPECT_EQ(Run({"--model", "sample", "models"}, &server).code, 1)
      << "the value of a flag is no command";
  EXPECT_EQ(before.code, 0) << before.err;
  EXPECT_EQ(before.out, after.out);
}

TEST_F(Latticectl, NoServerExitsWithTwoAndSaysHowToStartOne) {
  FakeServer gone;
  gone.Stop();
  const Finished run = Run({"sample", "--model", "gauss", "--count", "5",
                            "--retry_for", "0.3", "--output", File("a.npz")},
                           &gone);
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, AllOf(HasSubstr(gone.target()),
                             HasSubstr("latticed --repository")));
  EXPECT_THAT(work_.List(), IsEmpty());
}

TEST_F(Latticectl, AnUnknownModelExitsWithOneAndListsTheKnown) {
  FakeServer server;
  for (const auto& arguments :
       {std::vector<std::string>{"sample", "--model", "nope", "--count", "5"},
        std::vector<std::string>{"chain", "--model", "nope", "--steps", "5"}}) {
    const Finished run = Run(arguments, &server);
    EXPECT_EQ(run.code, 1);
    EXPECT_THAT(run.err, AllOf(HasSubstr("'nope'"), HasSubstr("gauss")));
  }
}

TEST_F(Latticectl, AModelWithoutALiveVersionIsNotAMissingServer) {
  FakeServer server(
      {.refuse = testing::DetailedStatus(grpc::StatusCode::UNAVAILABLE,
                                         "model gauss has no live version",
                                         "NO_LIVE_VERSION")});
  const Finished run =
      Run({"sample", "--model", "gauss", "--count", "5", "--retry_for", "0.2"},
          &server);
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, AllOf(HasSubstr("model gauss has no live version"),
                             HasSubstr("latticectl models"),
                             Not(HasSubstr("is not available"))));
}

TEST_F(Latticectl, AServerThatContradictsItselfExitsWithFour) {
  FakeServer server({.skips_a_draw = true});
  const Finished run =
      Run({"sample", "--model", "gauss", "--count", "200"}, &server);
  EXPECT_EQ(run.code, 4) << run.err;
}

TEST_F(Latticectl, NpzHoldsTheDrawsAndTheirProvenance) {
  FakeServer server({.breaks = 2});
  const Finished run = Run({"sample", "--model", "gauss", "--count", "200",
                            "--stream", "s", "--output", File("a.npz")},
                           &server);
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out,
              AllOf(HasSubstr("ESS"), HasSubstr("chi_2"), HasSubstr("m_p_L"),
                    HasSubstr("log_Z"), HasSubstr("0123456789ab"),
                    HasSubstr("200 draws"), HasSubstr("resumed 2 times")));
  EXPECT_THAT(work_.List(), UnorderedElementsAre("a.npz", "a.npz.json"));

  const testing::FakeDraw last = DrawOf(NamedStream("s"), 199);
  const Finished numpy =
      Numpy(File("a.npz"),
            "print(sorted(a.files), a['phi'].shape, a['phi'].dtype, "
            "a['log_q'].dtype, a['log_q'].shape, repr(float(a['log_q'][199])), "
            "repr(float(a['action'][199])), repr(float(a['phi'][199, 3, 3])))");
  EXPECT_EQ(numpy.code, 0) << numpy.err;
  EXPECT_EQ(numpy.out,
            absl::StrFormat("['action', 'log_q', 'phi'] (200, 4, 4) float32 "
                            "float64 (200,) %s %s %s\n",
                            // Python's repr: the shortest that reads back.
                            Shortest(last.log_q), Shortest(last.action),
                            Shortest(last.phi[15])));

  const auto json = Json(Contents(File("a.npz.json")));
  const auto& fields = json.fields();
  EXPECT_TRUE(fields.at("complete").bool_value());
  EXPECT_EQ(fields.at("draws").number_value(), 200);
  EXPECT_EQ(fields.at("resumes").number_value(), 2);
  EXPECT_EQ(fields.at("provenance")
                .struct_value()
                .fields()
                .at("digest")
                .string_value(),
            FakeServer::Digest(1));
  EXPECT_EQ(fields.at("stream_id").string_value(), NamedStream("s").Hex());
  EXPECT_TRUE(fields.at("summary").struct_value().fields().contains("ESS"));
  EXPECT_THAT(fields.at("command").string_value(),
              HasSubstr("sample --model gauss --count 200 --stream s"));
}

TEST_F(Latticectl, NpyHoldsTheFieldsAlone) {
  FakeServer server;
  ASSERT_EQ(Run({"sample", "--model", "gauss", "--count", "70", "--stream", "s",
                 "--first_index", "1000", "--output", File("a.npy")},
                &server)
                .code,
            0);
  const auto array = ParseNpy(Contents(File("a.npy")));
  ASSERT_TRUE(array.ok());
  EXPECT_EQ(array->descr, "<f4");
  EXPECT_THAT(array->shape, ::testing::ElementsAre(70, 4, 4));
  const testing::FakeDraw first = DrawOf(NamedStream("s"), 1000);
  EXPECT_EQ(array->bytes.substr(0, 64), std::string(BytesOf(first.phi)));
  EXPECT_THAT(work_.List(), UnorderedElementsAre("a.npy", "a.npy.json"));
}

TEST_F(Latticectl, JsonSummaryIsOneObjectOnStandardOutput) {
  FakeServer server({.non_finite = 3});
  const Finished run =
      Run({"sample", "--model", "gauss", "--count", "100", "--json"}, &server);
  EXPECT_EQ(run.code, 0);
  const auto json = Json(run.out);
  EXPECT_EQ(json.fields().at("draws").number_value(), 100);
  EXPECT_EQ(json.fields().at("non_finite").number_value(), 1);
  EXPECT_EQ(json.fields()
                .at("non_finite_index")
                .list_value()
                .values(0)
                .number_value(),
            3);
  EXPECT_EQ(
      Run({"sample", "--model", "gauss", "--count", "9", "--quiet"}, &server)
          .out,
      "");
}

TEST_F(Latticectl, ASingleDrawHasASummaryToo) {
  FakeServer server;
  EXPECT_EQ(Run({"sample", "--model", "gauss", "--count", "1"}, &server).code,
            0);
  const Finished run =
      Run({"chain", "--model", "gauss", "--steps", "1", "--json"}, &server);
  EXPECT_EQ(run.code, 0) << run.err;
  Json(run.out);
}

TEST_F(Latticectl, OutputThatCannotBeWrittenIsNoticedBeforeDrawing) {
  FakeServer server;
  std::filesystem::create_directory(File("folder.npz"));
  std::ofstream(File("old.npz")) << "old";
  std::vector<std::string> paths = {File("missing/a.npz"), File("folder.npz"),
                                    File("old.npz"), File("old.npz/a.npy")};
  if (geteuid() != 0) {  // who may write anywhere
    std::filesystem::create_directory(File("locked"));
    std::filesystem::permissions(File("locked"),
                                 std::filesystem::perms::owner_read);
    paths.push_back(File("locked/a.npz"));
  }
  for (const std::string& path : paths) {
    const Finished run =
        Run({"sample", "--model", "gauss", "--count", "70", "--output", path},
            &server);
    EXPECT_EQ(run.code, 3) << path;
    EXPECT_THAT(run.err, HasSubstr(path));
    EXPECT_EQ(
        Run({"chain", "--model", "gauss", "--steps", "70", "--output", path},
            &server)
            .code,
        3);
  }
  EXPECT_EQ(Run({"chain", "--model", "gauss", "--steps", "70", "--token_file",
                 File("missing/t")},
                &server)
                .code,
            3);
  EXPECT_EQ(server.sample_calls() + server.chain_calls(), 0);
  EXPECT_EQ(Contents(File("old.npz")), "old");
  EXPECT_EQ(Run({"sample", "--model", "gauss", "--count", "70", "--output",
                 File("old.npz"), "--force"},
                &server)
                .code,
            0);
  EXPECT_NE(Contents(File("old.npz")), "old");
}

TEST_F(Latticectl, AFullDiskLeavesNothingHalfWritten) {
  FakeServer server;
  // The limit on file sizes stands in for a full disk.
  Process run({"/bin/sh", "-c",
               absl::StrCat("ulimit -f 8; exec ", LATTICECTL,
                            " sample --model gauss --count 1000 --output ",
                            File("a.npz"), " --server ", server.target())},
              log_.path());
  const Finished finished = run.Wait();
  EXPECT_EQ(finished.code, 3) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("too large"));
  EXPECT_THAT(work_.List(), IsEmpty());
}

TEST_F(Latticectl, InterruptedKeepsCompleteBlocksInAValidFile) {
  for (const char* name : {"a.npz", "a.npy"}) {
    FakeServer server({.block_delay_ms = 30});
    auto run = Start({"sample", "--model", "gauss", "--count", "1e6",
                      "--stream", "s", "--output", File(name)},
                     &server);
    WaitForFile("phi.npy");
    run->Signal(SIGINT);
    const Finished finished = run->Wait();
    EXPECT_EQ(finished.code, 130) << finished.err;
    EXPECT_THAT(finished.err,
                AllOf(HasSubstr("interrupted after"), HasSubstr("kept")));
    EXPECT_THAT(work_.List(),
                UnorderedElementsAre(name, absl::StrCat(name, ".json")));
    const auto json = Json(Contents(File(absl::StrCat(name, ".json"))));
    EXPECT_FALSE(json.fields().at("complete").bool_value());
    const double draws = json.fields().at("draws").number_value();
    EXPECT_EQ(std::fmod(draws, 64), 0);
    const Finished numpy = Numpy(
        File(name), std::string("print((a['phi'] if hasattr(a, 'files') else "
                                "a).shape[0])"));
    EXPECT_EQ(numpy.out, absl::StrCat(static_cast<int>(draws), "\n"));
    std::filesystem::remove(File(name));
    std::filesystem::remove(File(absl::StrCat(name, ".json")));
  }
}

TEST_F(Latticectl, InterruptedBeforeTheFirstBlockLeavesNothing) {
  FakeServer server({.hangs = true});
  auto run = Start({"chain", "--model", "gauss", "--steps", "1e6", "--output",
                    File("a.npz")},
                   &server);
  while (server.chain_calls() == 0) absl::SleepFor(absl::Milliseconds(5));
  run->Signal(SIGINT);
  const Finished finished = run->Wait();
  EXPECT_EQ(finished.code, 130);
  EXPECT_THAT(finished.err, HasSubstr("nothing was written"));
  EXPECT_THAT(work_.List(), IsEmpty());
}

TEST_F(Latticectl, AServerThatStaysAwayLeavesTheCompleteBlocks) {
  FakeServer server({.block_delay_ms = 30});
  auto run = Start({"sample", "--model", "gauss", "--count", "1e6",
                    "--retry_for", "0.3", "--output", File("a.npz")},
                   &server);
  WaitForFile("phi.npy");
  server.Stop();
  const Finished finished = run->Wait();
  EXPECT_EQ(finished.code, 2) << finished.err;
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("draws had arrived"), HasSubstr("kept")));
  EXPECT_EQ(Numpy(File("a.npz"), "print(a['phi'].shape[0] % 64)").out, "0\n");
}

TEST_F(Latticectl, AChainGoesOnFromItsTokenFile) {
  FakeServer server;
  ASSERT_EQ(Run({"chain", "--model", "gauss", "--steps", "300", "--stream", "w",
                 "--output", File("whole.npz")},
                &server)
                .code,
            0);
  const Finished head = Run({"chain", "--model", "gauss", "--steps", "100",
                             "--stream", "w", "--output", File("head.npz")},
                            &server);
  ASSERT_EQ(head.code, 0) << head.err;
  EXPECT_THAT(
      head.out,
      AllOf(HasSubstr("acceptance"), HasSubstr("tau_int_chi_2"),
            HasSubstr("longest rejection run"), HasSubstr("head.npz.token")));
  const Finished tail = Run({"chain", "--token_file", File("head.npz.token"),
                             "--steps", "200", "--output", File("tail.npz")},
                            &server);
  ASSERT_EQ(tail.code, 0) << tail.err;
  EXPECT_EQ(Contents(File("head.npz.token")),
            Contents(File("whole.npz.token")));
  const Finished numpy = Numpy(
      File("whole.npz"),
      absl::StrCat(
          "h = numpy.load('", File("head.npz"), "'); t = numpy.load('",
          File("tail.npz"),
          "'); print(sorted(a.files), a['accept'].dtype, a['step'].dtype, "
          "all(numpy.array_equal(a[k], numpy.concatenate([h[k], t[k]])) for k "
          "in a.files), a['phi'].shape, a['step'][-1], "
          "a['accept'].sum() == len(set(a['index'])))"));
  EXPECT_EQ(numpy.out,
            "['accept', 'action', 'index', 'log_q', 'phi', 'step'] uint8 "
            "uint64 True (300, 4, 4) 299 True\n")
      << numpy.err;
}

TEST_F(Latticectl, ATokenFileThatIsNewBeginsAChain) {
  FakeServer server;
  const std::vector<std::string> command = {
      "chain", "--model", "gauss", "--steps", "64", "--token_file", File("t")};
  EXPECT_THAT(Run(command, &server).err, HasSubstr("a chain begins"));
  const std::string first = Contents(File("t"));
  EXPECT_EQ(Run(command, &server).code, 0);
  EXPECT_NE(Contents(File("t")), first);
  EXPECT_TRUE(server.chain_requests()[1].has_token());
  // Without a model there is nothing to begin with.
  const Finished none =
      Run({"chain", "--steps", "5", "--token_file", File("none")}, &server);
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err, HasSubstr("cannot read"));
  std::ofstream(File("bad")) << "not hex";
  EXPECT_EQ(
      Run({"chain", "--steps", "5", "--token_file", File("bad")}, &server).code,
      1);
  std::ofstream(File("forged")) << "00ff\n";
  const Finished forged =
      Run({"chain", "--steps", "5", "--token_file", File("forged")}, &server);
  EXPECT_EQ(forged.code, 1);
  EXPECT_EQ(Contents(File("forged")), "00ff\n");
}

TEST_F(Latticectl, GuardsTravelWithTheRequest) {
  FakeServer server;
  Run({"sample", "--model", "gauss", "--count", "5", "--expect_action",
       "m2=-4,lambda=6.008", "--expect_lattice", "8x8", "--digest",
       FakeServer::Digest(1)},
      &server);
  ASSERT_EQ(server.sample_calls(), 1);
  const v1::StreamSamplesRequest request = server.sample_requests()[0];
  EXPECT_EQ(request.expected_action().phi4().latticed().mass_squared(), -4);
  EXPECT_EQ(request.expected_action().phi4().latticed().lambda(), 6.008);
  EXPECT_EQ(request.expected_lattice().extent(1), 8u);
  EXPECT_EQ(request.model().digest(), FakeServer::Digest(1));
}

}  // namespace
}  // namespace latticed
