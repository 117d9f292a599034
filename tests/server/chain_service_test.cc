// Chains over a real connection: the walk itself, tokens, and resuming.
#include <cmath>
#include <fstream>
#include <set>

#include "core/stats/binned_series.h"
#include "core/stats/metropolis.h"
#include "gmock/gmock.h"
#include "server/tokens.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

v1::RunChainRequest NewChain(uint64_t steps, uint32_t thinning = 1) {
  v1::RunChainRequest request;
  request.mutable_chain()->mutable_model()->set_model("toy");
  request.mutable_chain()->mutable_stream()->set_name("chain");
  request.mutable_chain()->set_thinning(thinning);
  request.set_steps(steps);
  return request;
}

v1::RunChainRequest Continue(const std::string& token, uint64_t steps) {
  v1::RunChainRequest request;
  request.set_token(token);
  request.set_steps(steps);
  return request;
}

// Autocorrelation times are of one call, everything else of the whole chain.
std::string WithoutTau(v1::ChainSummary summary) {
  summary.clear_tau_int_action();
  summary.clear_tau_int_action_error();
  summary.clear_tau_int_abs_m();
  summary.clear_tau_int_abs_m_error();
  return summary.SerializeAsString();
}

class ChainService : public ::testing::Test {
 protected:
  void SetUp() override {
    // Poor enough to reject often: at 1.3 about every second step.
    flow_.scale = 1.3f;
    PublishToy(repository_.path(), flow_);
    config_ = TestConfig(repository_.path());
    config_.state_directory = state_.File("state");
    Restart();
  }
  void Restart() {
    server_ = nullptr;
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
    channel_ = Connect(server_->grpc_port());
  }

  ToyFlow flow_;
  TemporaryDirectory repository_;
  TemporaryDirectory state_;
  Config config_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

// Against AcceptReject over all draws at once.
TEST_F(ChainService, WalksAsMetropolisDoes) {
  constexpr int kSteps = 30000;
  const ChainResult chain = RunChain(channel_, NewChain(kSteps));
  ASSERT_TRUE(chain.status.ok()) << chain.status.error_message();
  EXPECT_GT(chain.blocks.size(), 2);
  const StreamId stream = NamedStream("chain");
  std::vector<double> log_w, log_u;
  for (uint64_t i = 0; i < kSteps; ++i) {
    const ToyDraw draw = DrawToy(flow_, stream, i);
    log_w.push_back(-draw.action - draw.log_q);
    log_u.push_back(std::log(Uniform(stream, i, Purpose::kAccept)));
  }
  const Walk walk = AcceptReject(-INFINITY, log_w, log_u);
  ASSERT_EQ(chain.index.size(), kSteps);
  uint64_t run = 0, longest = 0;
  for (int64_t i = 0; i < kSteps; ++i) {
    ASSERT_EQ(chain.index[i], walk.index[i]) << i;
    ASSERT_EQ(chain.accept[i], walk.index[i] == i ? '1' : '0') << i;
    run = walk.index[i] == i ? 0 : run + 1;
    longest = std::max(longest, run);
    const ToyDraw draw = DrawToy(flow_, stream, walk.index[i]);
    ASSERT_EQ(chain.log_q[i], draw.log_q);
    ASSERT_TRUE(std::equal(draw.phi.begin(), draw.phi.end(),
                           &chain.phi[static_cast<size_t>(i) * 16]));
  }
  EXPECT_EQ(chain.accept[0], '1') << "step 0 is always accepted";
  ASSERT_TRUE(chain.summary.has_value());
  EXPECT_EQ(chain.summary->steps(), kSteps);
  EXPECT_EQ(chain.summary->accepted(), walk.accepted);
  EXPECT_EQ(chain.summary->longest_rejection_run(), longest);
  EXPECT_GT(longest, 1);
  EXPECT_LT(walk.accepted, 0.9 * kSteps) << "nothing was rejected";
  const std::string text = server_->metrics().Text();
  EXPECT_EQ(MetricValue(text, "latticed_chain_proposals_total{model=\"toy\"}"),
            kSteps);
  EXPECT_EQ(MetricValue(
                text, "latticed_chain_proposals_accepted_total{model=\"toy\"}"),
            static_cast<double>(walk.accepted));
}

TEST_F(ChainService, ARepeatedConfigurationIsSentOnce) {
  const ChainResult chain = RunChain(channel_, NewChain(2000));
  ASSERT_TRUE(chain.status.ok());
  for (const v1::ChainBlock& block : chain.blocks) {
    EXPECT_EQ(block.row_size(), block.steps());
    // One row a move, and one for a configuration carried in.
    EXPECT_LE(block.index_size(), static_cast<int>(block.accepted()) + 1);
    EXPECT_EQ(block.phi().size(),
              static_cast<size_t>(block.index_size()) * 16 * 4);
    EXPECT_EQ(block.token().size(), 140);
  }
}

TEST_F(ChainService, ThinningKeepsEveryNthStep) {
  const ChainResult all = RunChain(channel_, NewChain(20000));
  const ChainResult some = RunChain(channel_, NewChain(20000, 7));
  ASSERT_TRUE(all.status.ok() && some.status.ok());
  ASSERT_EQ(some.index.size(), 20000 / 7 + 1);
  for (size_t i = 0; i < some.index.size(); ++i) {
    ASSERT_EQ(some.index[i], all.index[7 * i]);
    ASSERT_TRUE(std::equal(&some.phi[16 * i], &some.phi[16 * i] + 16,
                           &all.phi[16 * 7 * i]));
  }
  EXPECT_EQ(some.accept, all.accept);
}

// Also after a restart, as on a replica with the same key.
TEST_F(ChainService, ResumesToTheByteFromEveryToken) {
  constexpr uint64_t kSteps = 3000;
  for (const uint32_t thinning : {1u, 7u}) {
    v1::RunChainRequest whole_request = NewChain(kSteps, thinning);
    whole_request.set_block_bytes_max(65536);
    const ChainResult whole = RunChain(channel_, whole_request);
    ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
    ASSERT_GT(whole.blocks.size(), 3);
    Restart();
    uint64_t done = 0;
    std::string expected;
    for (size_t from = 0; from < whole.blocks.size(); ++from) {
      done += whole.blocks[from].steps();
      if (done == kSteps) break;
      v1::RunChainRequest request =
          Continue(whole.blocks[from].token(), kSteps - done);
      request.set_block_bytes_max(65536);
      const ChainResult rest = RunChain(channel_, request);
      ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
      EXPECT_EQ(rest.header.first_step(), done);
      EXPECT_EQ(rest.header.thinning(), thinning);
      ASSERT_EQ(rest.blocks.size(), whole.blocks.size() - from - 1);
      for (size_t i = 0; i < rest.blocks.size(); ++i) {
        ASSERT_EQ(rest.blocks[i].SerializeAsString(),
                  whole.blocks[from + 1 + i].SerializeAsString());
      }
      EXPECT_EQ(WithoutTau(*rest.summary), WithoutTau(*whole.summary));
    }
  }
}

TEST_F(ChainService, ResumesFromAnyNumberOfSteps) {
  const ChainResult whole = RunChain(channel_, NewChain(300, 3));
  ASSERT_TRUE(whole.status.ok());
  ChainResult pieces = RunChain(channel_, NewChain(1, 3));
  for (const uint64_t steps : {1, 2, 5, 100, 191}) {
    const ChainResult piece = RunChain(channel_, Continue(pieces.token, steps));
    ASSERT_TRUE(piece.status.ok()) << piece.status.error_message();
    pieces.index.insert(pieces.index.end(), piece.index.begin(),
                        piece.index.end());
    pieces.phi.insert(pieces.phi.end(), piece.phi.begin(), piece.phi.end());
    pieces.accept += piece.accept;
    pieces.token = piece.token;
  }
  EXPECT_EQ(pieces.index, whole.index);
  EXPECT_EQ(pieces.phi, whole.phi);
  EXPECT_EQ(pieces.accept, whole.accept);
  EXPECT_EQ(pieces.token, whole.token);
}

// Each is, to the byte, the chain of its stream alone.
TEST_F(ChainService, SeveralChainsAreEachTheirOwn) {
  constexpr uint32_t kChains = 5;
  constexpr uint64_t kSteps = 3000;
  v1::RunChainRequest request = NewChain(kSteps, 3);
  request.mutable_chain()->set_chains(kChains);
  request.set_block_bytes_max(65536);
  const Rounds several = RunChains(channel_, request);
  ASSERT_TRUE(several.status.ok()) << several.status.error_message();
  EXPECT_EQ(several.header.chains(), kChains);
  ASSERT_EQ(several.header.stream_id_size(), kChains);
  EXPECT_EQ(several.header.stream_id(0), NamedStream("chain").Bytes());
  uint64_t accepted = 0;
  uint64_t longest = 0;
  std::set<std::string> streams;
  for (uint32_t c = 0; c < kChains; ++c) {
    streams.insert(several.header.stream_id(static_cast<int>(c)));
    v1::RunChainRequest alone = NewChain(kSteps, 3);
    alone.mutable_chain()->mutable_stream()->set_id(
        several.header.stream_id(static_cast<int>(c)));
    const ChainResult expected = RunChain(channel_, alone);
    ASSERT_TRUE(expected.status.ok());
    ChainResult found;
    for (const v1::ChainBlock& block : several.blocks) {
      if (block.chain() == c) AppendChainBlock(block, &found);
    }
    EXPECT_EQ(found.index, expected.index);
    EXPECT_EQ(found.phi, expected.phi);
    EXPECT_EQ(found.log_q, expected.log_q);
    EXPECT_EQ(found.accept, expected.accept);
    accepted += expected.summary->accepted();
    longest = std::max(longest, expected.summary->longest_rejection_run());
  }
  EXPECT_EQ(streams.size(), kChains);
  EXPECT_EQ(several.summary.steps(), kSteps);
  EXPECT_EQ(several.summary.accepted(), accepted);
  EXPECT_EQ(several.summary.longest_rejection_run(), longest);
  // Rounds: chains in turn, the same steps, one token at their end.
  ASSERT_EQ(several.blocks.size() % kChains, 0);
  EXPECT_GT(several.blocks.size(), 3 * kChains);
  for (size_t i = 0; i < several.blocks.size(); ++i) {
    const v1::ChainBlock& block = several.blocks[i];
    EXPECT_EQ(block.chain(), i % kChains);
    EXPECT_EQ(block.first_step(), several.blocks[i - i % kChains].first_step());
    EXPECT_EQ(block.steps(), several.blocks[i - i % kChains].steps());
    EXPECT_EQ(block.token().size(),
              block.chain() + 1 == kChains ? 79 + 61 * kChains : 0);
  }
}

TEST_F(ChainService, SeveralChainsResumeToTheByteFromEveryToken) {
  constexpr uint32_t kChains = 3;
  constexpr uint64_t kSteps = 3500;
  v1::RunChainRequest request = NewChain(kSteps, 7);
  request.mutable_chain()->set_chains(kChains);
  request.set_block_bytes_max(65536);
  const Rounds whole = RunChains(channel_, request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  Restart();
  int resumed = 0;
  for (size_t i = 0; i < whole.blocks.size(); ++i) {
    const v1::ChainBlock& block = whole.blocks[i];
    const uint64_t done = block.first_step() + block.steps();
    if (block.token().empty() || done == kSteps) continue;
    ++resumed;
    v1::RunChainRequest more = Continue(block.token(), kSteps - done);
    more.set_block_bytes_max(65536);
    const Rounds rest = RunChains(channel_, more);
    ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
    EXPECT_EQ(rest.header.first_step(), done);
    EXPECT_EQ(rest.header.chains(), kChains);
    ASSERT_EQ(rest.blocks.size(), whole.blocks.size() - i - 1);
    for (size_t j = 0; j < rest.blocks.size(); ++j) {
      ASSERT_EQ(rest.blocks[j].SerializeAsString(),
                whole.blocks[i + 1 + j].SerializeAsString());
    }
    EXPECT_EQ(WithoutTau(rest.summary), WithoutTau(whole.summary));
  }
  EXPECT_GT(resumed, 2);
  // A token of several is held to its seal as one of one is.
  std::string forged = whole.summary.token();
  for (size_t byte = 0; byte < forged.size(); ++byte) {
    forged[byte] ^= 1;
    EXPECT_EQ(CodeAndReason(RunChain(channel_, Continue(forged, 1)).status),
              "INVALID_ARGUMENT CHAIN_TOKEN_INVALID");
    forged[byte] ^= 1;
  }
  const auto stub = v1::ChainService::NewStub(channel_);
  grpc::ClientContext context;
  v1::VerifyChainTokenRequest verify;
  verify.set_token(forged);
  v1::VerifyChainTokenResponse response;
  ASSERT_TRUE(stub->VerifyChainToken(&context, verify, &response).ok());
  EXPECT_EQ(response.chains(), kChains);
  EXPECT_EQ(response.steps(), kSteps);
  EXPECT_EQ(response.accepted(), whole.summary.accepted());
}

// Of the series that the client can form itself.
TEST_F(ChainService, TheSummaryHasAutocorrelationTimes) {
  const ChainResult chain = RunChain(channel_, NewChain(3000));
  ASSERT_TRUE(chain.status.ok());
  BinnedSeries action, abs_m;
  for (size_t i = 0; i < chain.index.size(); ++i) {
    const ToyDraw draw = DrawToy(flow_, NamedStream("chain"), chain.index[i]);
    double sum = 0;
    for (const float x : draw.phi) sum += x;
    action.Add(draw.action);
    abs_m.Add(std::abs(sum) / 16);
  }
  EXPECT_DOUBLE_EQ(chain.summary->tau_int_action(), action.TauInt().value);
  EXPECT_DOUBLE_EQ(chain.summary->tau_int_action_error(),
                   action.TauInt().error);
  EXPECT_DOUBLE_EQ(chain.summary->tau_int_abs_m(), abs_m.TauInt().value);
  // Rejections repeat configurations.
  EXPECT_GT(chain.summary->tau_int_action(), 0.6);
  v1::RunChainRequest request = NewChain(3000);
  request.mutable_chain()->add_content(v1::CONTENT_LOG_Q);
  const ChainResult without = RunChain(channel_, request);
  EXPECT_EQ(without.summary->tau_int_action(), chain.summary->tau_int_action());
  EXPECT_EQ(without.summary->tau_int_abs_m(), 0) << "needs phi";
}

TEST_F(ChainService, ForgedTokensAreRefused) {
  const ChainResult chain = RunChain(channel_, NewChain(10));
  ASSERT_TRUE(chain.status.ok());
  std::vector<std::string> forged = {"", "x", chain.token + "x",
                                     chain.token.substr(1),
                                     std::string(140, '\0')};
  for (size_t byte = 0; byte < chain.token.size(); ++byte) {
    forged.push_back(chain.token);
    forged.back()[byte] ^= 1;
  }
  const auto stub = v1::ChainService::NewStub(channel_);
  for (const std::string& token : forged) {
    const ChainResult result = RunChain(channel_, Continue(token, 1));
    EXPECT_EQ(CodeAndReason(result.status),
              "INVALID_ARGUMENT CHAIN_TOKEN_INVALID");
    EXPECT_TRUE(result.blocks.empty());
    grpc::ClientContext context;
    v1::VerifyChainTokenRequest request;
    request.set_token(token);
    v1::VerifyChainTokenResponse response;
    EXPECT_EQ(
        CodeAndReason(stub->VerifyChainToken(&context, request, &response)),
        "INVALID_ARGUMENT CHAIN_TOKEN_INVALID");
  }
}

TEST_F(ChainService, ATokenOfAnotherKeyIsRefused) {
  const ChainResult chain = RunChain(channel_, NewChain(10));
  config_.state_directory = state_.File("other");
  Restart();
  EXPECT_EQ(CodeAndReason(RunChain(channel_, Continue(chain.token, 1)).status),
            "INVALID_ARGUMENT CHAIN_TOKEN_INVALID");
}

TEST_F(ChainService, VerifySaysWhatATokenHolds) {
  const ChainResult chain = RunChain(channel_, NewChain(500, 5));
  const auto stub = v1::ChainService::NewStub(channel_);
  grpc::ClientContext context;
  v1::VerifyChainTokenRequest request;
  request.set_token(chain.token);
  v1::VerifyChainTokenResponse response;
  ASSERT_TRUE(stub->VerifyChainToken(&context, request, &response).ok());
  EXPECT_EQ(response.steps(), 500);
  EXPECT_EQ(response.thinning(), 5);
  EXPECT_EQ(response.accepted(), chain.summary->accepted());
  EXPECT_EQ(response.provenance().stream_id(), NamedStream("chain").Bytes());
}

TEST_F(ChainService, ATokenOfARetiredVersionSaysWhatIsLive) {
  const ChainResult chain = RunChain(channel_, NewChain(10));
  for (int version = 2; version <= 3; ++version) {
    flow_.scale += 0.01f;
    PublishToy(repository_.path(), flow_);
    ASSERT_TRUE(Eventually([&] {
      return Stream(channel_, DrawsOf("toy", "s", 0, 1)).header.version() ==
             version;
    }));
  }
  const grpc::Status status =
      RunChain(channel_, Continue(chain.token, 1)).status;
  EXPECT_EQ(CodeAndReason(status), "FAILED_PRECONDITION VERSION_RETIRED");
  EXPECT_THAT(status.error_message(), HasSubstr("toy version 3"));
}

// The same digest cannot compute other bits on one machine, so the token is
// forged with the server's own key instead.
TEST_F(ChainService, OtherBitsAreNumericsMismatch) {
  const ChainResult chain = RunChain(channel_, NewChain(10));
  std::ifstream file(config_.state_directory + "/chain-token.key",
                     std::ios::binary);
  const std::string key((std::istreambuf_iterator<char>(file)), {});
  ASSERT_EQ(key.size(), 32);
  ChainSet chains;
  ASSERT_TRUE(OpenToken(key, chain.token, &chains));
  ASSERT_EQ(SealToken(key, chains), chain.token);
  chains[0].log_w = std::nextafter(chains[0].log_w, 0.0);
  const grpc::Status status =
      RunChain(channel_, Continue(SealToken(key, chains), 1)).status;
  EXPECT_EQ(CodeAndReason(status), "FAILED_PRECONDITION NUMERICS_MISMATCH");
}

TEST_F(ChainService, BadRequestsNameTheField) {
  const auto field = [&](const v1::RunChainRequest& request) {
    const grpc::Status status = RunChain(channel_, request).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    const ErrorParts parts = PartsOf(status);
    return parts.bad_request.field_violations_size() == 0
               ? std::string("none")
               : parts.bad_request.field_violations(0).field();
  };
  EXPECT_EQ(field(v1::RunChainRequest()), "start");
  EXPECT_EQ(field(NewChain(0)), "steps");
  EXPECT_EQ(field(NewChain((uint64_t{1} << 40) + 1)), "steps");
  EXPECT_EQ(field(NewChain(1, (1 << 20) + 1)), "chain.thinning");
  v1::RunChainRequest request = NewChain(1);
  request.mutable_chain()->set_chains(65);
  EXPECT_EQ(field(request), "chain.chains");
  request = NewChain(1);
  request.mutable_chain()->mutable_model()->set_policy(
      v1::VERSION_POLICY_FOLLOW);
  EXPECT_EQ(field(request), "chain.model.policy");
  request = NewChain(1);
  request.mutable_chain()->mutable_model()->set_model("");
  EXPECT_EQ(field(request), "model.model");
  request = NewChain(1);
  request.mutable_chain()->mutable_expected_lattice()->add_extent(9);
  EXPECT_EQ(CodeAndReason(RunChain(channel_, request).status),
            "FAILED_PRECONDITION LATTICE_MISMATCH");
}

TEST(ChainServiceNonFinite, IsNeverAcceptedAndCounted) {
  TemporaryDirectory repository;
  ToyFlow flow;
  flow.nan_every = 3;  // draws 2, 5, ...
  flow.scale = 1.01f;
  PublishToy(repository.path(), flow);
  Config config = TestConfig(repository.path());
  config.smoke_draws = 0;
  const auto server = StartServer(config);
  ASSERT_NE(server, nullptr);
  const ChainResult chain =
      RunChain(Connect(server->grpc_port()), NewChain(300));
  ASSERT_TRUE(chain.status.ok());
  EXPECT_EQ(chain.summary->non_finite(), 100);
  for (const uint64_t index : chain.index) EXPECT_NE(index % 3, 2);
}

// Nothing is kept before there is a configuration, and a token says so.
TEST(ChainServiceNonFinite, AChainStartsAtItsFirstFiniteDraw) {
  TemporaryDirectory repository;
  ToyFlow flow;
  flow.nan_every = 1;
  PublishToy(repository.path(), flow);
  Config config = TestConfig(repository.path());
  config.smoke_draws = 0;
  const auto server = StartServer(config);
  ASSERT_NE(server, nullptr);
  const auto channel = Connect(server->grpc_port());
  const ChainResult chain = RunChain(channel, NewChain(20));
  ASSERT_TRUE(chain.status.ok());
  EXPECT_TRUE(chain.index.empty());
  EXPECT_EQ(chain.accept, std::string(20, '0'));
  const ChainResult rest = RunChain(channel, Continue(chain.token, 20));
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.summary->non_finite(), 40);
  EXPECT_EQ(rest.summary->longest_rejection_run(), 40);
}

}  // namespace
}  // namespace latticed
