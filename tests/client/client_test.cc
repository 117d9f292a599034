#include "client/client.h"

#include <thread>

#include "absl/time/clock.h"
#include "client/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

using testing::DetailedStatus;
using testing::DrawOf;
using ::testing::ElementsAre;
using testing::FakeServer;
using testing::Faults;
using ::testing::HasSubstr;

ClientOptions Impatient() {
  ClientOptions options;
  options.retry.initial = absl::Milliseconds(2);
  options.retry.max = absl::Milliseconds(20);
  options.retry.connect = absl::Milliseconds(400);
  options.retry.outage = absl::Milliseconds(400);
  return options;
}

std::unique_ptr<Client> Connect(const FakeServer& server,
                                ClientOptions options = Impatient()) {
  auto client = Client::Connect(server.target(), std::move(options));
  EXPECT_THAT(client, IsOk());
  return std::move(*client);
}

v1::StreamSamplesRequest Samples(uint64_t count) {
  v1::StreamSamplesRequest request;
  request.mutable_model()->set_model("gauss");
  request.set_first_index(5);
  request.set_count(count);
  return request;
}

v1::RunChainRequest Chain(uint64_t steps, uint32_t thinning = 1) {
  v1::RunChainRequest request;
  request.mutable_chain()->mutable_model()->set_model("gauss");
  request.mutable_chain()->mutable_stream()->set_name("walk");
  request.mutable_chain()->set_thinning(thinning);
  request.set_steps(steps);
  return request;
}

// Reads to the end or to an error; every draw must be the next one's bytes.
absl::Status ReadAll(SampleReader* draws) {
  DrawBlock block;
  uint64_t next = 5;
  while (true) {
    const absl::StatusOr<bool> more = draws->Next(&block);
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    EXPECT_EQ(block.first_index, next);
    const StreamId stream =
        StreamId::FromBytes(draws->provenance().stream_id());
    size_t row = 0;
    for (uint32_t i = 0; i < block.count; ++i) {
      if (std::count(block.non_finite.begin(), block.non_finite.end(), i)) {
        continue;
      }
      const testing::FakeDraw expected = DrawOf(stream, next + i);
      EXPECT_EQ(block.log_q[row], expected.log_q);
      EXPECT_EQ(block.action[row], expected.action);
      EXPECT_TRUE(std::equal(expected.phi.begin(), expected.phi.end(),
                             block.phi.begin() + row * testing::kSites));
      ++row;
    }
    EXPECT_EQ(row, block.size());
    next += block.count;
  }
}

struct Walked {
  std::vector<uint64_t> index;  // of each kept configuration
  std::vector<uint8_t> accept;
  std::string token;
};
absl::Status ReadAll(ChainReader* chain, Walked* walked) {
  StepBlock block;
  while (true) {
    const absl::StatusOr<bool> more = chain->Next(&block);
    walked->token = chain->token();
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    for (uint32_t row : block.row) {
      walked->index.push_back(block.index[row]);
    }
    walked->accept.insert(walked->accept.end(), block.accept.begin(),
                          block.accept.end());
  }
}

TEST(Client, ReadsEveryDrawOnceAndInOrder) {
  FakeServer server;
  SampleReader draws = Connect(server)->StreamSamples(Samples(200));
  EXPECT_THAT(ReadAll(&draws), IsOk());
  EXPECT_EQ(draws.received(), 200u);
  EXPECT_EQ(draws.resumes(), 0);
  EXPECT_EQ(draws.provenance().digest(), FakeServer::Digest(1));
  EXPECT_EQ(draws.weights().draws(), 200u);
  EXPECT_EQ(server.sample_calls(), 1);
}

TEST(Client, ResumesBrokenStreamsAfterTheLastDrawReceived) {
  FakeServer server({.breaks = 3, .blocks_before_break = 1});
  SampleReader draws = Connect(server)->StreamSamples(Samples(300));
  EXPECT_THAT(ReadAll(&draws), IsOk());
  EXPECT_EQ(draws.received(), 300u);
  EXPECT_EQ(draws.resumes(), 3);
  const auto requests = server.sample_requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_FALSE(requests[0].has_stream());
  for (size_t i = 1; i < requests.size(); ++i) {
    // The unnamed stream of the first call goes on, under its digest.
    EXPECT_EQ(requests[i].first_index(), 5 + 64 * i);
    EXPECT_EQ(requests[i].count(), 300 - 64 * i);
    EXPECT_EQ(requests[i].model().digest(), FakeServer::Digest(1));
    EXPECT_EQ(requests[i].stream().id(), draws.provenance().stream_id());
  }
}

TEST(Client, SurvivesARestartedServer) {
  auto first = std::make_unique<FakeServer>(Faults{.block_delay_ms = 20});
  const int port = first->port();
  ClientOptions options = Impatient();
  options.retry.outage = absl::Seconds(20);
  auto client = Connect(*first, options);
  SampleReader draws = client->StreamSamples(Samples(640));
  DrawBlock block;
  ASSERT_THAT(draws.Next(&block), IsOk());
  first->Stop();
  first.reset();
  std::jthread restart([&] {
    absl::SleepFor(absl::Milliseconds(100));
    first = std::make_unique<FakeServer>(Faults{}, port);
  });
  uint64_t next = block.first_index + block.count;
  while (true) {
    const absl::StatusOr<bool> more = draws.Next(&block);
    ASSERT_THAT(more, IsOk());
    if (!*more) break;
    EXPECT_EQ(block.first_index, next);
    next += block.count;
  }
  restart.join();
  EXPECT_EQ(draws.received(), 640u);
  EXPECT_GE(draws.resumes(), 1);
}

TEST(Client, GivesUpOnAServerThatStaysAwayAndSaysHowFarItGot) {
  FakeServer server({.block_delay_ms = 10});
  SampleReader draws = Connect(server)->StreamSamples(Samples(640));
  DrawBlock block;
  ASSERT_THAT(draws.Next(&block), IsOk());
  server.Stop();
  const absl::Time start = absl::Now();
  const absl::Status status = ReadAll(&draws);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable,
                               AllOf(HasSubstr(server.target()),
                                     HasSubstr("of 640 draws had arrived"))));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  EXPECT_GE(draws.received(), 64u);
}

TEST(Client, GivesUpOnAServerThatDiesAfterEveryHeader) {
  FakeServer server({.breaks = 1 << 30, .blocks_before_break = 0});
  SampleReader draws = Connect(server)->StreamSamples(Samples(64));
  EXPECT_THAT(ReadAll(&draws), StatusIs(absl::StatusCode::kUnavailable,
                                        HasSubstr("gave up after")));
  EXPECT_GT(server.sample_calls(), 3);
}

TEST(Client, DrawsADamagedBlockAgain) {
  FakeServer server({.wrong_crcs = 2});
  SampleReader draws = Connect(server)->StreamSamples(Samples(64));
  EXPECT_THAT(ReadAll(&draws), IsOk());
  EXPECT_EQ(draws.received(), 64u);
  EXPECT_EQ(draws.resumes(), 2);
}

TEST(Client, BlocksThatStayDamagedAreAnError) {
  FakeServer server({.wrong_crcs = 1 << 30});
  SampleReader draws = Connect(server)->StreamSamples(Samples(128));
  EXPECT_THAT(ReadAll(&draws),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("CRC32C")));
  EXPECT_EQ(draws.received(), 0u);
  EXPECT_EQ(server.sample_calls(), 3);
}

TEST(Client, RefusesToContinueWithAnotherVersion) {
  FakeServer server({.breaks = 1, .switches_version = true});
  SampleReader draws = Connect(server)->StreamSamples(Samples(300));
  EXPECT_THAT(ReadAll(&draws), StatusIs(absl::StatusCode::kFailedPrecondition,
                                        HasSubstr("pinned")));
  EXPECT_EQ(draws.received(), 64u);
}

TEST(Client, FollowsTheLiveVersionWhereAsked) {
  FakeServer server({.breaks = 1, .switches_version = true});
  v1::StreamSamplesRequest request = Samples(300);
  request.mutable_model()->set_policy(v1::VERSION_POLICY_FOLLOW);
  SampleReader draws = Connect(server)->StreamSamples(request);
  EXPECT_THAT(ReadAll(&draws), IsOk());
  ASSERT_EQ(draws.provenances().size(), 2u);
  EXPECT_EQ(draws.provenances()[1].first_index(), 5u + 64);
}

TEST(Client, NoticesALostDraw) {
  FakeServer server({.skips_a_draw = true});
  SampleReader draws = Connect(server)->StreamSamples(Samples(300));
  EXPECT_THAT(ReadAll(&draws), StatusIs(absl::StatusCode::kInternal,
                                        HasSubstr("where 69 comes next")));
}

TEST(Client, NoticesAStreamThatEndsEarly) {
  FakeServer server({.ends_early_after = 2});
  SampleReader draws = Connect(server)->StreamSamples(Samples(300));
  EXPECT_THAT(ReadAll(&draws), StatusIs(absl::StatusCode::kInternal,
                                        HasSubstr("after 128 of 300")));
}

TEST(Client, ASilentServerCountsAsBroken) {
  FakeServer server({.hangs = true});
  ClientOptions options = Impatient();
  options.silence_max = absl::Milliseconds(100);
  SampleReader draws = Connect(server, options)->StreamSamples(Samples(300));
  EXPECT_THAT(ReadAll(&draws), StatusIs(absl::StatusCode::kUnavailable,
                                        HasSubstr("sent nothing for")));
  EXPECT_GT(server.sample_calls(), 1);
}

TEST(Client, CancellingEndsACallThatWaits) {
  FakeServer server({.hangs = true});
  std::atomic<bool> cancelled = false;
  ClientOptions options = Impatient();
  options.cancelled = &cancelled;
  SampleReader draws = Connect(server, options)->StreamSamples(Samples(300));
  std::jthread cancel([&] {
    absl::SleepFor(absl::Milliseconds(100));
    cancelled = true;
  });
  const absl::Time start = absl::Now();
  EXPECT_THAT(ReadAll(&draws), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST(Client, ComesBackWhenAFullServerAsksForIt) {
  FakeServer full({.refuse = DetailedStatus(
                       grpc::StatusCode::RESOURCE_EXHAUSTED, "queue is full",
                       "QUEUE_FULL", "", "", /*retry_delay_ms=*/50)});
  SampleReader draws = Connect(full)->StreamSamples(Samples(64));
  EXPECT_THAT(ReadAll(&draws), StatusIs(absl::StatusCode::kResourceExhausted));
  // Waits of at least 50 ms within 400 ms.
  EXPECT_GT(full.sample_calls(), 1);
  EXPECT_LT(full.sample_calls(), 10);

  FakeServer final({.refuse = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                           "too much")});
  SampleReader refused = Connect(final)->StreamSamples(Samples(64));
  EXPECT_THAT(ReadAll(&refused),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(final.sample_calls(), 1);
}

TEST(Client, DrawsThatAreNotFiniteAreLeftOutAndCounted) {
  FakeServer server({.non_finite = 7});
  SampleReader draws = Connect(server)->StreamSamples(Samples(100));
  EXPECT_THAT(ReadAll(&draws), IsOk());
  EXPECT_EQ(draws.received(), 100u);
  EXPECT_EQ(draws.non_finite(), 1u);
  EXPECT_EQ(draws.weights().draws(), 99u);
}

TEST(Client, ErrorsKeepTheirCodeReasonAndFields) {
  FakeServer server({.refuse = DetailedStatus(
                         grpc::StatusCode::INVALID_ARGUMENT, "bad request",
                         "INVALID_FIELD", "count", "must be 1..2^40")});
  SampleReader draws = Connect(server)->StreamSamples(Samples(64));
  const absl::Status status = ReadAll(&draws);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("count: must be 1..2^40")));
  EXPECT_EQ(ErrorReason(status), "INVALID_FIELD");
  EXPECT_EQ(server.sample_calls(), 1);
}

TEST(Client, ListsModelsOfAllPages) {
  FakeServer server;
  const auto models = Connect(server)->ListModels();
  ASSERT_THAT(models, IsOk());
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].model(), "empty");
  EXPECT_EQ((*models)[1].model(), "gauss");
  EXPECT_EQ(Connect(server)->GetModel("gauss")->live().version(), 1);
  EXPECT_EQ(Connect(server)->ListModelVersions("empty")->size(), 2u);
  const auto unknown = Connect(server)->GetModel("nope");
  EXPECT_THAT(unknown, StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(ErrorReason(unknown.status()), "MODEL_NOT_FOUND");
}

TEST(Client, OneReplySamplesEqualStreamedOnes) {
  FakeServer server;
  v1::SampleRequest request;
  request.mutable_model()->set_model("gauss");
  request.mutable_stream()->set_name("s");
  request.set_count(3);
  const auto response = Connect(server)->Sample(request);
  ASSERT_THAT(response, IsOk());
  double log_q[3];
  ASSERT_TRUE(FromBytes(response->block().log_q(), absl::MakeSpan(log_q)));
  EXPECT_EQ(log_q[2], DrawOf(NamedStream("s"), 2).log_q);
}

TEST(Client, RefusesAddressesThatAreNone) {
  for (const char* target :
       {"", "localhost", ":7410", "host:0", "host:x", "host:65536"}) {
    EXPECT_THAT(
        Client::Connect(target),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")))
        << target;
  }
  EXPECT_THAT(Client::Connect("unix:/tmp/socket"), IsOk());
}

TEST(Client, NothingListeningIsUnavailableAndNamesTheAddress) {
  FakeServer gone;
  gone.Stop();
  const auto models = Connect(gone)->ListModels();
  EXPECT_THAT(models, StatusIs(absl::StatusCode::kUnavailable,
                               HasSubstr(gone.target())));
}

TEST(Chain, ResumedFromTokensIsTheSameChain) {
  FakeServer whole;
  ChainReader unbroken = Connect(whole)->RunChain(Chain(400));
  Walked expected;
  ASSERT_THAT(ReadAll(&unbroken, &expected), IsOk());
  ASSERT_EQ(expected.index.size(), 400u);

  FakeServer server({.breaks = 3, .blocks_before_break = 1});
  ChainReader chain = Connect(server)->RunChain(Chain(400));
  Walked walked;
  EXPECT_THAT(ReadAll(&chain, &walked), IsOk());
  EXPECT_EQ(chain.resumes(), 3);
  EXPECT_EQ(walked.index, expected.index);
  EXPECT_EQ(walked.accept, expected.accept);
  EXPECT_EQ(walked.token, expected.token);
  EXPECT_EQ(chain.accepted(), unbroken.accepted());
  EXPECT_EQ(chain.longest_rejection_run(), unbroken.longest_rejection_run());
  EXPECT_EQ(chain.summary().longest_rejection_run(),
            chain.longest_rejection_run());
  // Neither every nor no proposal is accepted, or the test would show little.
  EXPECT_GT(chain.accepted(), 20u);
  EXPECT_LT(chain.accepted(), 380u);
  const auto requests = server.chain_requests();
  ASSERT_EQ(requests.size(), 4u);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_TRUE(requests[i].has_token());
    EXPECT_EQ(requests[i].steps(), 400 - 64 * i);
  }
}

TEST(Chain, BrokenBeforeItsFirstBlockBeginsTheSameChainAgain) {
  FakeServer server({.breaks = 1, .blocks_before_break = 0});
  v1::RunChainRequest request = Chain(100);
  request.mutable_chain()->clear_stream();
  ChainReader chain = Connect(server)->RunChain(request);
  Walked walked;
  EXPECT_THAT(ReadAll(&chain, &walked), IsOk());
  const auto requests = server.chain_requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[1].chain().stream().id(),
            chain.header().provenance().stream_id());
  EXPECT_EQ(requests[1].chain().model().digest(), FakeServer::Digest(1));
}

TEST(Chain, ContinuesFromATokenAndThins) {
  FakeServer server;
  auto client = Connect(server);
  ChainReader whole = client->RunChain(Chain(300, /*thinning=*/7));
  Walked expected;
  ASSERT_THAT(ReadAll(&whole, &expected), IsOk());
  EXPECT_EQ(expected.index.size(), (300 + 6) / 7);

  ChainReader head = client->RunChain(Chain(100, /*thinning=*/7));
  Walked walked;
  ASSERT_THAT(ReadAll(&head, &walked), IsOk());
  v1::RunChainRequest rest;
  rest.set_token(walked.token);
  rest.set_steps(200);
  ChainReader tail = client->RunChain(rest);
  ASSERT_THAT(ReadAll(&tail, &walked), IsOk());
  EXPECT_EQ(tail.header().first_step(), 100u);
  EXPECT_EQ(walked.index, expected.index);
  EXPECT_EQ(walked.token, expected.token);
}

TEST(Chain, DamagedBlocksAreDrawnAgainFromTheTokenBefore) {
  FakeServer whole;
  ChainReader unbroken = Connect(whole)->RunChain(Chain(200));
  Walked expected;
  ASSERT_THAT(ReadAll(&unbroken, &expected), IsOk());
  FakeServer server({.wrong_crcs = 2});
  ChainReader chain = Connect(server)->RunChain(Chain(200));
  Walked walked;
  EXPECT_THAT(ReadAll(&chain, &walked), IsOk());
  EXPECT_EQ(walked.index, expected.index);
}

TEST(Chain, ForgedTokensAreRefused) {
  FakeServer server;
  v1::RunChainRequest request;
  request.set_token("not a token");
  request.set_steps(10);
  ChainReader chain = Connect(server)->RunChain(request);
  Walked walked;
  const absl::Status status = ReadAll(&chain, &walked);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(ErrorReason(status), "CHAIN_TOKEN_INVALID");
  EXPECT_EQ(server.chain_calls(), 1);
}

TEST(Chain, RefusesToContinueWithAnotherVersion) {
  FakeServer server({.breaks = 1, .switches_version = true});
  ChainReader chain = Connect(server)->RunChain(Chain(200));
  Walked walked;
  EXPECT_THAT(ReadAll(&chain, &walked),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(walked.index.size(), 64u);
}

}  // namespace
}  // namespace latticed
