// Updates between the steps of a chain, over a real connection: the flow is a
// Gaussian of every site alone, the action a free field.
#include "server/chain_update.h"

#include <cmath>

#include "core/montecarlo/configuration_update.h"
#include "core/stats/autocorrelation.h"
#include "gmock/gmock.h"
#include "tests/server/serving.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

constexpr double kMassSquared = 0.5;  // of the toy's free field

v1::RunChainRequest NewChain(uint64_t steps, uint32_t interval, bool hmc) {
  v1::RunChainRequest request;
  v1::ChainStart& chain = *request.mutable_chain();
  chain.mutable_model()->set_model("toy");
  chain.mutable_stream()->set_name("updates");
  chain.mutable_update()->set_interval(interval);
  if (hmc) {
    chain.mutable_update()->mutable_hmc()->set_steps(4);
  } else {
    chain.mutable_update()->mutable_cluster();
  }
  request.set_steps(steps);
  return request;
}

v1::RunChainRequest Continue(const std::string& token, uint64_t steps) {
  v1::RunChainRequest request;
  request.set_token(token);
  request.set_steps(steps);
  return request;
}

class ChainUpdates : public ::testing::Test {
 protected:
  void SetUp() override {
    flow_.free_field = true;
    flow_.l0 = 2;
    flow_.l1 = 3;
    // Wider than the field in every direction, so that no weight is without
    // bound, and poor: a few proposals in a hundred are accepted.
    flow_.scale = 0.8f;
  }
  void Serve() {
    PublishToy(repository_.path(), flow_);
    Config config = TestConfig(repository_.path());
    config.state_directory = state_.File("state");
    server_ = StartServer(config);
    ASSERT_NE(server_, nullptr);
    channel_ = Connect(server_->grpc_port());
  }
  Phi4 Target() const {
    return Phi4({flow_.l0, flow_.l1}, {.mass_squared = kMassSquared});
  }
  double LogQ(absl::Span<const float> phi) const {
    double sum = 0;
    for (const float x : phi) {
      const double z = x / double{flow_.scale};
      sum -= z * z / 2 + std::log(2 * M_PI) / 2 + std::log(double{flow_.scale});
    }
    return sum;
  }

  ToyFlow flow_;
  TemporaryDirectory repository_;
  TemporaryDirectory state_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

// Against the same chain made here, one step at a time.
TEST_F(ChainUpdates, EveryStepIsTheOneDefined) {
  Serve();
  constexpr uint64_t kSteps = 3000;
  const StreamId stream = NamedStream("updates");
  const Phi4 action = Target();
  for (const bool hmc : {false, true}) {
    const uint32_t interval = hmc ? 7 : 5;
    const ChainResult chain =
        RunChain(channel_, NewChain(kSteps, interval, hmc));
    ASSERT_TRUE(chain.status.ok()) << chain.status.error_message();
    ASSERT_EQ(chain.index.size(), kSteps);
    const ConfigurationUpdate update = {
        .kind = hmc ? ConfigurationUpdate::Kind::kHmc
                    : ConfigurationUpdate::Kind::kCluster,
        .scale = hmc ? 1 : ClusterWidth(action.couplings()),
        .hmc_steps = hmc ? 4u : 10u};
    std::vector<float> phi;
    double log_w = 0, acceptance = 0;
    uint64_t index = 0, updates = 0, moved = 0, made = 0;
    for (uint64_t t = 0; t < kSteps; ++t) {
      if (t > 0 && t % interval == 0) {
        acceptance +=
            UpdateConfiguration(update, action, stream, t, absl::MakeSpan(phi));
        log_w = -action.Evaluate(absl::MakeConstSpan(phi)) - LogQ(phi);
        ++updates;
        ++made;
      }
      const ToyDraw draw = DrawToy(flow_, stream, t);
      const double proposed = -draw.action - draw.log_q;
      const bool accept =
          t == 0 ||
          std::log(Uniform(stream, t, Purpose::kAccept)) <= proposed - log_w;
      if (accept) {
        phi = draw.phi;
        log_w = proposed;
        index = t;
        updates = 0;
        ++moved;
      }
      ASSERT_EQ(chain.accept[t], accept ? '1' : '0') << t;
      ASSERT_EQ(chain.index[t], index) << t;
      ASSERT_EQ(chain.updates[t], updates) << t;
      ASSERT_NEAR(chain.log_q[t], LogQ(phi), 1e-12) << t;
      ASSERT_TRUE(
          std::equal(phi.begin(), phi.end(), &chain.phi[t * phi.size()]))
          << t;
    }
    EXPECT_EQ(chain.summary->accepted(), moved);
    EXPECT_EQ(chain.summary->updates(), made);
    EXPECT_NEAR(chain.summary->update_acceptance(),
                acceptance / static_cast<double>(made), 1e-12);
    EXPECT_LT(moved, kSteps / 2) << "the updates hardly mattered";
  }
}

// A free field has <S> = V/2, and by its mode sum
// <phi^2> = 1/V sum_k 1 / (2 (khat^2 + m^2)). Errors by the Gamma method.
TEST_F(ChainUpdates, TheChainHasTheRightDistribution) {
  Serve();
  constexpr uint64_t kSteps = 500000;
  constexpr size_t kSites = 6;
  double exact = 0;
  for (uint32_t k0 = 0; k0 < flow_.l0; ++k0) {
    for (uint32_t k1 = 0; k1 < flow_.l1; ++k1) {
      const double s0 = 2 * std::sin(M_PI * k0 / flow_.l0);
      const double s1 = 2 * std::sin(M_PI * k1 / flow_.l1);
      exact += 1 / (2 * (s0 * s0 + s1 * s1 + kMassSquared)) / kSites;
    }
  }
  for (const bool hmc : {false, true}) {
    const ChainResult chain = RunChain(channel_, NewChain(kSteps, 20, hmc));
    ASSERT_TRUE(chain.status.ok()) << chain.status.error_message();
    std::vector<double> phi2, action;
    for (size_t t = 0; t < kSteps; ++t) {
      const auto phi =
          absl::MakeConstSpan(chain.phi).subspan(kSites * t, kSites);
      double sum = 0;
      for (const float x : phi) sum += x * x;
      phi2.push_back(sum / kSites);
      action.push_back(Target().Evaluate(phi));
    }
    const Autocorrelation a = GammaMethod(phi2);
    EXPECT_THAT(a.mean, IsWithinErrors(exact, a.error, 5));
    EXPECT_LT(a.error, 0.015 * exact);
    const Autocorrelation b = GammaMethod(action);
    EXPECT_THAT(b.mean, IsWithinErrors(kSites / 2.0, b.error, 5));
    // With weights of before the updates <S> would be 3.1.
    EXPECT_LT(b.error, 0.02);
  }
}

TEST_F(ChainUpdates, ATokenContinuesToTheByteWhereverItWasTaken) {
  Serve();
  constexpr uint64_t kSteps = 240;
  for (const uint32_t chains : {1u, 3u}) {
    v1::RunChainRequest request = NewChain(kSteps, 10, /*hmc=*/false);
    request.mutable_chain()->set_chains(chains);
    request.mutable_chain()->set_thinning(3);
    const Rounds whole = RunChains(channel_, request);
    ASSERT_TRUE(whole.status.ok());
    // Pieces that end before, at and after updates.
    std::string token;
    uint64_t done = 0;
    // A chain's kept configurations follow each other only within itself.
    const auto by_chain = [&](const std::vector<v1::ChainBlock>& blocks) {
      std::vector<ChainResult> all(chains);
      for (const v1::ChainBlock& block : blocks) {
        AppendChainBlock(block, &all[block.chain()]);
      }
      return all;
    };
    std::vector<v1::ChainBlock> blocks;
    for (const uint64_t piece :
         {uint64_t{9}, uint64_t{1}, uint64_t{1}, uint64_t{20}, uint64_t{209}}) {
      v1::RunChainRequest next = request;
      if (!token.empty()) next = Continue(token, piece);
      next.set_steps(piece);
      const Rounds part = RunChains(channel_, next);
      ASSERT_TRUE(part.status.ok()) << part.status.error_message();
      EXPECT_EQ(part.header.update().interval(), 10);
      blocks.insert(blocks.end(), part.blocks.begin(), part.blocks.end());
      token = part.summary.token();
      done += piece;
    }
    ASSERT_EQ(done, kSteps);
    EXPECT_EQ(token, whole.summary.token());
    const auto pieces = by_chain(blocks);
    const auto expected = by_chain(whole.blocks);
    for (uint32_t c = 0; c < chains; ++c) {
      EXPECT_EQ(pieces[c].phi, expected[c].phi);
      EXPECT_EQ(pieces[c].log_q, expected[c].log_q);
      EXPECT_EQ(pieces[c].index, expected[c].index);
      EXPECT_EQ(pieces[c].updates, expected[c].updates);
      EXPECT_EQ(pieces[c].accept, expected[c].accept);
    }
    // 24 bytes of phi for each chain that sits on an updated configuration.
    size_t updated = 0;
    for (const ChainResult& one : expected) updated += one.updates.back() > 0;
    EXPECT_EQ(token.size(), 104 + 69 * chains + 24 * updated);
  }
}

TEST_F(ChainUpdates, WithoutPhiTheUpdatesAreTheSame) {
  Serve();
  v1::RunChainRequest request = NewChain(500, 10, /*hmc=*/false);
  const ChainResult whole = RunChain(channel_, request);
  request.mutable_chain()->add_content(v1::CONTENT_LOG_Q);
  const ChainResult without = RunChain(channel_, request);
  ASSERT_TRUE(without.status.ok());
  EXPECT_EQ(without.log_q, whole.log_q);
  EXPECT_TRUE(without.phi.empty());
}

// The flow run backwards finds no log q: the chain stays where it is.
TEST_F(ChainUpdates, AnUpdateWithoutAWeightIsUndone) {
  flow_.evaluate_error = 1e30f;
  Serve();
  const ChainResult chain =
      RunChain(channel_, NewChain(101, 10, /*hmc=*/false));
  ASSERT_TRUE(chain.status.ok()) << chain.status.error_message();
  EXPECT_EQ(chain.summary->updates(), 10);
  EXPECT_EQ(chain.summary->non_finite(), 10);
  EXPECT_THAT(chain.updates, ::testing::Each(0));
  v1::RunChainRequest plain = NewChain(101, 10, /*hmc=*/false);
  plain.mutable_chain()->clear_update();
  EXPECT_EQ(RunChain(channel_, plain).index, chain.index);
}

TEST_F(ChainUpdates, BadRequestsNameTheField) {
  Serve();
  const auto field = [&](const v1::RunChainRequest& request) {
    const grpc::Status status = RunChain(channel_, request).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    const ErrorParts parts = PartsOf(status);
    return parts.bad_request.field_violations_size() == 0
               ? std::string("none")
               : parts.bad_request.field_violations(0).field();
  };
  EXPECT_EQ(field(NewChain(1, 0, false)), "chain.update.interval");
  EXPECT_EQ(field(NewChain(1, (1 << 20) + 1, false)), "chain.update.interval");
  v1::RunChainRequest request = NewChain(1, 1, false);
  request.mutable_chain()->mutable_update()->clear_cluster();
  EXPECT_EQ(field(request), "chain.update.kind");
  request = NewChain(1, 1, false);
  request.mutable_chain()->mutable_update()->set_repeats(1001);
  EXPECT_EQ(field(request), "chain.update.repeats");
  request = NewChain(1, 1, false);
  for (const double width : {-1.0, 1e7, std::nan("")}) {
    request.mutable_chain()->mutable_update()->mutable_cluster()->set_width(
        width);
    EXPECT_EQ(field(request), "chain.update.cluster.width");
  }
  request = NewChain(1, 1, true);
  request.mutable_chain()->mutable_update()->mutable_hmc()->set_length(-1);
  EXPECT_EQ(field(request), "chain.update.hmc.length");
  request = NewChain(1, 1, true);
  request.mutable_chain()->mutable_update()->mutable_hmc()->set_steps(1001);
  EXPECT_EQ(field(request), "chain.update.hmc.steps");
  // 6 sites * 1000 steps * 1000 repeats.
  request.mutable_chain()->mutable_update()->mutable_hmc()->set_steps(1000);
  request.mutable_chain()->mutable_update()->set_repeats(1000);
  EXPECT_EQ(field(request), "chain.update.repeats");
}

TEST_F(ChainUpdates, ATokenHasRoomForSoManyConfigurations) {
  flow_.l0 = 96;
  flow_.l1 = 96;
  Serve();
  v1::RunChainRequest request = NewChain(3, 1, /*hmc=*/false);
  // 2^20 bytes over 96 * 96 * 4.
  request.mutable_chain()->set_chains(28);
  const Rounds most = RunChains(channel_, request);
  ASSERT_TRUE(most.status.ok()) << most.status.error_message();
  EXPECT_GT(most.summary.token().size(), 64 << 10)
      << "more than other requests may have";
  const Rounds rest = RunChains(channel_, Continue(most.summary.token(), 2));
  EXPECT_TRUE(rest.status.ok()) << rest.status.error_message();
  request.mutable_chain()->set_chains(29);
  const grpc::Status status = RunChain(channel_, request).status;
  EXPECT_EQ(CodeAndReason(status), "INVALID_ARGUMENT INVALID_FIELD");
  EXPECT_THAT(status.error_message(), HasSubstr("has room for 28"));
}

// Updates need phi whether or not the client wants it, and a block of 1 MiB has
// 28 configurations of 96 x 96.
TEST_F(ChainUpdates, BlocksAreSizedByWhatIsDrawn) {
  flow_.l0 = 96;
  flow_.l1 = 96;
  Serve();
  v1::RunChainRequest request = NewChain(100, 50, /*hmc=*/false);
  request.mutable_chain()->add_content(v1::CONTENT_LOG_Q);
  const ChainResult chain = RunChain(channel_, request);
  ASSERT_TRUE(chain.status.ok()) << chain.status.error_message();
  for (const v1::ChainBlock& block : chain.blocks) {
    EXPECT_LE(block.steps(), 28);
  }
}

}  // namespace
}  // namespace latticed
