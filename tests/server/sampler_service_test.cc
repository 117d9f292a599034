// Draws over a real connection: their bytes, and what bad requests get.
#include <cmath>
#include <set>
#include <thread>

#include "core/wire/block.h"
#include "gmock/gmock.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;

class SamplerService : public ::testing::Test {
 protected:
  void SetUp() override {
    checkpoint_ = PublishToy(repository_.path(), flow_);
    server_ = StartServer(TestConfig(repository_.path()));
    ASSERT_NE(server_, nullptr);
    channel_ = Connect(server_->grpc_port());
    stub_ = v1::SamplerService::NewStub(channel_);
  }

  grpc::Status Sample(const v1::SampleRequest& request,
                      v1::SampleResponse* response) {
    grpc::ClientContext context;
    return stub_->Sample(&context, request, response);
  }
  v1::SampleRequest Ask(uint64_t count) {
    v1::SampleRequest request;
    request.mutable_model()->set_model("toy");
    request.mutable_stream()->set_name("test");
    request.set_count(count);
    return request;
  }
  grpc::Status SampleError(const v1::SampleRequest& request) {
    v1::SampleResponse response;
    return Sample(request, &response);
  }

  ToyFlow flow_;
  TemporaryDirectory repository_;
  Checkpoint checkpoint_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SamplerService::Stub> stub_;
};

TEST_F(SamplerService, DrawsAreThoseOfTheFlow) {
  v1::SampleResponse response;
  v1::SampleRequest request = Ask(37);  // two tiles and a bit
  request.set_first_index(uint64_t{1} << 60);
  ASSERT_TRUE(Sample(request, &response).ok());
  const v1::SampleBlock& block = response.block();
  EXPECT_EQ(block.first_index(), uint64_t{1} << 60);
  EXPECT_EQ(block.count(), 37);
  EXPECT_EQ(block.crc32c(),
            BlockCrc32c(block.log_q(), block.action(), block.phi()));
  std::vector<float> phi;
  std::vector<double> log_q, action;
  for (uint64_t i = 0; i < 37; ++i) {
    const ToyDraw draw =
        DrawToy(flow_, NamedStream("test"), (uint64_t{1} << 60) + i);
    phi.insert(phi.end(), draw.phi.begin(), draw.phi.end());
    log_q.push_back(draw.log_q);
    action.push_back(draw.action);
  }
  EXPECT_EQ(block.phi(), BytesOf(absl::MakeConstSpan(phi)));
  EXPECT_EQ(block.log_q(), BytesOf(absl::MakeConstSpan(log_q)));
  EXPECT_EQ(block.action(), BytesOf(absl::MakeConstSpan(action)));

  const v1::Provenance& provenance = response.provenance();
  EXPECT_EQ(provenance.model(), "toy");
  EXPECT_EQ(provenance.version(), 1);
  EXPECT_EQ(provenance.digest(), checkpoint_.digest);
  EXPECT_EQ(provenance.stream_id(), NamedStream("test").Bytes());
  EXPECT_EQ(provenance.first_index(), uint64_t{1} << 60);
  EXPECT_EQ(provenance.action().free_field().mass_squared(), 0.5);
  EXPECT_EQ(provenance.lattice().extent(1), 4);
  EXPECT_EQ(provenance.numerics_mode(), "float32 tile=16 toy cpu");
  EXPECT_EQ(provenance.log_q_error_rms(), 1e-3);
  EXPECT_FALSE(provenance.server_build().empty());
  uint64_t prefix = 0;
  ASSERT_EQ(sscanf(checkpoint_.digest.substr(0, 16).c_str(), "%lx", &prefix),
            1);
  EXPECT_EQ(block.digest_prefix(), prefix);
}

// However draws are asked for, and whoever else draws at the time.
TEST_F(SamplerService, BytesDoNotDependOnBatchingOrOtherClients) {
  constexpr uint64_t kDraws = 6000;
  const StreamResult whole = Stream(channel_, DrawsOf("toy", "s", 0, kDraws));
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  ASSERT_EQ(whole.log_q.size(), kDraws);
  std::vector<std::thread> clients;
  std::vector<StreamResult> parts(16);
  for (size_t c = 0; c < 16; ++c) {
    clients.emplace_back([&, c] {
      // Uneven pieces of the one stream, each on a connection of its own.
      const auto channel = Connect(server_->grpc_port());
      const uint64_t step = 7 + 53 * c;
      StreamResult& part = parts[c];
      for (uint64_t first = 0; first < kDraws; first += step) {
        v1::StreamSamplesRequest request =
            DrawsOf("toy", "s", first, std::min(step, kDraws - first));
        request.set_block_bytes_max(65536);
        const StreamResult piece = Stream(channel, request);
        ASSERT_TRUE(piece.status.ok()) << piece.status.error_message();
        part.phi.insert(part.phi.end(), piece.phi.begin(), piece.phi.end());
        part.log_q.insert(part.log_q.end(), piece.log_q.begin(),
                          piece.log_q.end());
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (const StreamResult& part : parts) {
    EXPECT_EQ(part.phi, whole.phi);
    EXPECT_EQ(part.log_q, whole.log_q);
  }
}

TEST_F(SamplerService, StreamEndsWithTheSumsOfItsWeights) {
  const StreamResult result = Stream(channel_, DrawsOf("toy", "s", 5, 40000));
  ASSERT_TRUE(result.status.ok());
  ASSERT_TRUE(result.summary.has_value());
  EXPECT_GT(result.blocks.size(), 2);
  EXPECT_EQ(result.next_index, 40005);
  double most = -INFINITY, sum = 0, sum2 = 0;
  for (size_t i = 0; i < result.log_q.size(); ++i) {
    most = std::max(most, -result.action[i] - result.log_q[i]);
  }
  for (size_t i = 0; i < result.log_q.size(); ++i) {
    const double w = std::exp(-result.action[i] - result.log_q[i] - most);
    sum += w;
    sum2 += w * w;
  }
  EXPECT_EQ(result.summary->draws(), 40000);
  EXPECT_EQ(result.summary->log_w_max(), most);
  EXPECT_NEAR(result.summary->sum_w(), sum, 1e-9 * sum);
  EXPECT_NEAR(result.summary->sum_w2(), sum2, 1e-9 * sum2);
  EXPECT_NEAR(result.summary->ess(), sum * sum / (40000 * sum2), 1e-9);
}

TEST_F(SamplerService, ContentLeavesTheRestOut) {
  v1::StreamSamplesRequest request = DrawsOf("toy", "s", 0, 20000);
  request.add_content(v1::CONTENT_LOG_Q);
  const StreamResult part = Stream(channel_, request);
  ASSERT_TRUE(part.status.ok());
  request.clear_content();
  const StreamResult whole = Stream(channel_, request);
  EXPECT_EQ(part.log_q, whole.log_q);
  EXPECT_TRUE(part.phi.empty());
  EXPECT_TRUE(part.action.empty());
  EXPECT_EQ(part.summary->SerializeAsString(),
            whole.summary->SerializeAsString());
}

TEST_F(SamplerService, UnnamedStreamsNeverRepeat) {
  std::set<std::string> ids, draws;
  for (int i = 0; i < 200; ++i) {
    v1::SampleRequest request = Ask(1);
    request.clear_stream();
    v1::SampleResponse response;
    ASSERT_TRUE(Sample(request, &response).ok());
    ids.insert(response.provenance().stream_id());
    draws.insert(response.block().phi());
  }
  EXPECT_EQ(ids.size(), 200);
  EXPECT_EQ(draws.size(), 200);
}

TEST_F(SamplerService, AFreshStreamCanBeReadAgainById) {
  v1::SampleRequest request = Ask(8);
  request.clear_stream();
  v1::SampleResponse first, again;
  ASSERT_TRUE(Sample(request, &first).ok());
  request.mutable_stream()->set_id(first.provenance().stream_id());
  ASSERT_TRUE(Sample(request, &again).ok());
  EXPECT_EQ(first.block().SerializeAsString(),
            again.block().SerializeAsString());
}

TEST_F(SamplerService, CountOutOfRangeNamesTheFieldAndTheRange) {
  grpc::Status status = SampleError(Ask(0));
  EXPECT_EQ(CodeAndReason(status), "INVALID_ARGUMENT INVALID_FIELD");
  EXPECT_EQ(PartsOf(status).bad_request.field_violations(0).field(), "count");
  EXPECT_THAT(status.error_message(), HasSubstr("1 to "));
  // 2 MiB of 80-byte configurations.
  const uint64_t most = (2 << 20) / (16 * 4 + 16);
  EXPECT_TRUE(SampleError(Ask(most)).ok());
  status = SampleError(Ask(most + 1));
  EXPECT_EQ(CodeAndReason(status), "INVALID_ARGUMENT INVALID_FIELD");
  EXPECT_THAT(status.error_message(), HasSubstr(std::to_string(most)));
  status = Stream(channel_, DrawsOf("toy", "s", 0, 0)).status;
  EXPECT_EQ(CodeAndReason(status), "INVALID_ARGUMENT INVALID_FIELD");
  status =
      Stream(channel_, DrawsOf("toy", "s", 0, (uint64_t{1} << 40) + 1)).status;
  EXPECT_EQ(CodeAndReason(status), "INVALID_ARGUMENT INVALID_FIELD");
}

TEST_F(SamplerService, IndicesEndAtTwoToTheSixtyFour) {
  const StreamResult last =
      Stream(channel_, DrawsOf("toy", "s", UINT64_MAX - 9, 10));
  ASSERT_TRUE(last.status.ok()) << last.status.error_message();
  EXPECT_EQ(last.log_q.back(),
            DrawToy(flow_, NamedStream("s"), UINT64_MAX).log_q);
  const grpc::Status status =
      Stream(channel_, DrawsOf("toy", "s", UINT64_MAX - 9, 11)).status;
  EXPECT_EQ(CodeAndReason(status), "OUT_OF_RANGE INDEX_OUT_OF_RANGE");
}

TEST_F(SamplerService, UnknownModelListsTheKnownOnes) {
  v1::SampleRequest request = Ask(1);
  request.mutable_model()->set_model("phi4-l9");
  grpc::Status status = SampleError(request);
  EXPECT_EQ(CodeAndReason(status), "NOT_FOUND MODEL_NOT_FOUND");
  EXPECT_THAT(status.error_message(), HasSubstr("this server has toy"));
  EXPECT_EQ(PartsOf(status).info.metadata().at("models"), "toy");
  EXPECT_EQ(PartsOf(status).info.domain(), "latticed");
  for (const char* name : {"", "../toy", "Toy", "a\nb"}) {
    request.mutable_model()->set_model(name);
    status = SampleError(request);
    EXPECT_EQ(CodeAndReason(status), "INVALID_ARGUMENT INVALID_FIELD") << name;
    EXPECT_THAT(status.error_message(), HasSubstr("toy"));
  }
}

TEST_F(SamplerService, UnknownVersionsAndSlotsSayWhatIsLive) {
  v1::SampleRequest request = Ask(1);
  request.mutable_model()->set_version(7);
  grpc::Status status = SampleError(request);
  EXPECT_EQ(CodeAndReason(status), "NOT_FOUND VERSION_NOT_FOUND");
  EXPECT_THAT(status.error_message(), HasSubstr("toy version 1"));
  request.mutable_model()->set_digest(std::string(64, 'a'));
  EXPECT_EQ(CodeAndReason(SampleError(request)), "NOT_FOUND VERSION_NOT_FOUND");
  request.mutable_model()->set_slot(v1::SLOT_PREVIOUS);
  EXPECT_EQ(CodeAndReason(SampleError(request)), "NOT_FOUND VERSION_NOT_FOUND");
  request.mutable_model()->set_slot(static_cast<v1::Slot>(9));
  EXPECT_EQ(CodeAndReason(SampleError(request)),
            "INVALID_ARGUMENT INVALID_FIELD");
  request.mutable_model()->set_digest(checkpoint_.digest);
  EXPECT_TRUE(SampleError(request).ok());
  request.mutable_model()->set_policy(v1::VERSION_POLICY_FOLLOW);
  EXPECT_EQ(CodeAndReason(SampleError(request)),
            "INVALID_ARGUMENT INVALID_FIELD");
}

TEST_F(SamplerService, GuardsCompareActionAndLattice) {
  v1::SampleRequest request = Ask(1);
  request.mutable_expected_lattice()->add_extent(4);
  request.mutable_expected_lattice()->add_extent(4);
  request.mutable_expected_action()->mutable_free_field()->set_mass_squared(
      0.5);
  EXPECT_TRUE(SampleError(request).ok());
  request.mutable_expected_lattice()->set_extent(1, 8);
  grpc::Status status = SampleError(request);
  EXPECT_EQ(CodeAndReason(status), "FAILED_PRECONDITION LATTICE_MISMATCH");
  EXPECT_THAT(status.error_message(), HasSubstr("4x8"));
  EXPECT_THAT(status.error_message(), HasSubstr("4x4"));
  request.clear_expected_lattice();
  request.mutable_expected_action()->mutable_free_field()->set_mass_squared(
      0.75);
  status = SampleError(request);
  EXPECT_EQ(CodeAndReason(status), "FAILED_PRECONDITION ACTION_MISMATCH");
  EXPECT_THAT(status.error_message(), HasSubstr("0.75"));
  EXPECT_THAT(status.error_message(), HasSubstr("0.5"));
  v1::StreamSamplesRequest stream = DrawsOf("toy", "s", 0, 1);
  *stream.mutable_expected_action() = request.expected_action();
  EXPECT_EQ(CodeAndReason(Stream(channel_, stream).status),
            "FAILED_PRECONDITION ACTION_MISMATCH");
}

TEST_F(SamplerService, BadStreamsAndContentNameTheField) {
  v1::SampleRequest request = Ask(1);
  request.mutable_stream()->set_name("");
  grpc::Status status = SampleError(request);
  EXPECT_EQ(PartsOf(status).bad_request.field_violations(0).field(),
            "stream.name");
  request.mutable_stream()->set_name(std::string(257, 'x'));
  EXPECT_EQ(CodeAndReason(SampleError(request)),
            "INVALID_ARGUMENT INVALID_FIELD");
  request.mutable_stream()->set_id("eleven byte");
  status = SampleError(request);
  EXPECT_EQ(PartsOf(status).bad_request.field_violations(0).field(),
            "stream.id");
  request.mutable_stream()->clear_kind();
  status = SampleError(request);
  EXPECT_EQ(PartsOf(status).bad_request.field_violations(0).field(), "stream");
  request = Ask(1);
  request.add_content(static_cast<v1::Content>(77));
  status = SampleError(request);
  EXPECT_EQ(PartsOf(status).bad_request.field_violations(0).field(), "content");
  EXPECT_TRUE(SampleError(Ask(1)).ok()) << "the server keeps serving";
}

TEST_F(SamplerService, OversizedRequestsAreRefused) {
  v1::SampleRequest request = Ask(1);
  request.mutable_stream()->set_name(std::string(70000, 'x'));
  EXPECT_EQ(CodeAndReason(SampleError(request)),
            "RESOURCE_EXHAUSTED REQUEST_TOO_LARGE");
  v1::StreamSamplesRequest stream = DrawsOf("toy", "s", 0, 1);
  stream.mutable_stream()->set_name(std::string(70000, 'x'));
  EXPECT_EQ(CodeAndReason(Stream(channel_, stream).status),
            "RESOURCE_EXHAUSTED REQUEST_TOO_LARGE");
  EXPECT_TRUE(SampleError(Ask(1)).ok());
}

TEST(SamplerServiceNonFinite, IsReportedAndNeverSent) {
  TemporaryDirectory repository;
  ToyFlow flow;
  flow.nan_every = 100;
  PublishToy(repository.path(), flow);
  Config config = TestConfig(repository.path());
  config.smoke_draws = 64;  // stops short of the first
  const auto server = StartServer(config);
  ASSERT_NE(server, nullptr);
  const StreamResult result =
      Stream(Connect(server->grpc_port()), DrawsOf("toy", "s", 0, 1000));
  ASSERT_TRUE(result.status.ok());
  std::vector<uint64_t> expected;
  std::vector<double> log_q;
  for (uint64_t i = 0; i < 1000; ++i) {
    const ToyDraw draw = DrawToy(flow, NamedStream("s"), i);
    if (std::isnan(draw.log_q)) {
      expected.push_back(i);
    } else {
      log_q.push_back(draw.log_q);
    }
  }
  ASSERT_EQ(expected.size(), 10);
  EXPECT_EQ(result.non_finite, expected);
  EXPECT_EQ(result.log_q, log_q);
  EXPECT_EQ(result.phi.size(), 990 * 16);
  EXPECT_EQ(result.summary->non_finite(), 10);
  EXPECT_EQ(result.summary->draws(), 990);
  EXPECT_EQ(MetricValue(server->metrics().Text(),
                        "latticed_nonfinite_values_total{kind=\"log_q\","
                        "model=\"toy\"}"),
            10);
}

TEST(SamplerServiceBroken, AThrowingFlowIsInternalAndTheOthersGoOn) {
  TemporaryDirectory repository;
  ToyFlow broken;
  broken.model = "broken";
  broken.throw_from = 1000;
  PublishToy(repository.path(), broken);
  PublishToy(repository.path(), ToyFlow());
  const auto server = StartServer(TestConfig(repository.path()));
  ASSERT_NE(server, nullptr);
  const auto channel = Connect(server->grpc_port());
  const grpc::Status status =
      Stream(channel, DrawsOf("broken", "s", 990, 100)).status;
  EXPECT_EQ(CodeAndReason(status), "INTERNAL DRAW_FAILED");
  EXPECT_THAT(status.error_message(), HasSubstr("the toy is broken"));
  EXPECT_TRUE(Stream(channel, DrawsOf("toy", "s", 990, 100)).status.ok());
  EXPECT_TRUE(Stream(channel, DrawsOf("broken", "s", 0, 100)).status.ok());
}

}  // namespace
}  // namespace latticed
