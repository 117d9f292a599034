// EvaluateLogProb over a real connection.
#include <cmath>
#include <thread>

#include "core/wire/block.h"
#include "core/wire/crc32c.h"
#include "gmock/gmock.h"
#include "server/evaluate_call.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using ::testing::HasSubstr;
using Stub = v1::SamplerService::Stub;
using Call = grpc::ClientReaderWriter<v1::EvaluateLogProbRequest,
                                      v1::EvaluateLogProbResponse>;

v1::EvaluateLogProbRequest Asking(const std::vector<float>& phi,
                                  const std::string& model = "") {
  v1::EvaluateLogProbRequest request;
  if (!model.empty()) request.mutable_model()->set_model(model);
  request.set_phi(std::string(BytesOf(phi)));
  request.set_crc32c(Crc32c(request.phi()));
  return request;
}

class Evaluate : public ::testing::Test {
 protected:
  void SetUp() override {
    flow_.scale = 1.2f;
    flow_.tile = 16;
    flow_.delay_us = 200;
    PublishToy(repository_.path(), flow_);
    config_ = TestConfig(repository_.path());
    config_.smoke_draws = 0;
    Restart();
  }
  void Restart() {
    server_ = nullptr;
    server_ = StartServer(config_);
    ASSERT_NE(server_, nullptr);
    stub_ = v1::SamplerService::NewStub(Connect(server_->grpc_port()));
  }
  std::vector<float> Draws(uint64_t first, uint64_t count) {
    std::vector<float> phi;
    for (uint64_t i = first; i < first + count; ++i) {
      const ToyDraw draw = DrawToy(flow_, NamedStream("s"), i);
      phi.insert(phi.end(), draw.phi.begin(), draw.phi.end());
    }
    return phi;
  }
  // How a call ends that sends one request.
  grpc::Status StatusOf(const v1::EvaluateLogProbRequest& request) {
    grpc::ClientContext context;
    const auto call = stub_->EvaluateLogProb(&context);
    call->Write(request);
    call->WritesDone();
    v1::EvaluateLogProbResponse response;
    while (call->Read(&response)) {
    }
    return call->Finish();
  }

  ToyFlow flow_;
  TemporaryDirectory repository_;
  Config config_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Stub> stub_;
};

// Messages of many sizes, so that they end anywhere in a tile.
TEST_F(Evaluate, DrawsAreScoredAsTheyWereDrawn) {
  grpc::ClientContext context;
  const auto call = stub_->EvaluateLogProb(&context);
  uint64_t first = 0;
  for (const uint64_t count : {1, 15, 16, 17, 333, 1, 32768}) {
    ASSERT_TRUE(call->Write(Asking(Draws(first, count), first ? "" : "toy")));
    v1::EvaluateLogProbResponse response;
    ASSERT_TRUE(call->Read(&response));
    EXPECT_EQ(response.has_provenance(), first == 0);
    if (first == 0) {
      EXPECT_EQ(response.provenance().model(), "toy");
      EXPECT_EQ(response.provenance().digest().size(), 64);
      EXPECT_TRUE(response.provenance().stream_id().empty());
    }
    EXPECT_EQ(response.crc32c(),
              BlockCrc32c(response.log_q(), response.action(), ""));
    std::vector<double> log_q(count), action(count);
    ASSERT_TRUE(FromBytes(response.log_q(), absl::MakeSpan(log_q)));
    ASSERT_TRUE(FromBytes(response.action(), absl::MakeSpan(action)));
    for (uint64_t i = 0; i < count; ++i) {
      const ToyDraw draw = DrawToy(flow_, NamedStream("s"), first + i);
      ASSERT_EQ(log_q[i], draw.log_q);
      ASSERT_EQ(action[i], draw.action);
    }
    first += count;
  }
  call->WritesDone();
  v1::EvaluateLogProbResponse response;
  EXPECT_FALSE(call->Read(&response));
  EXPECT_TRUE(call->Finish().ok());
}

// A client that writes ahead gets its answers in order all the same.
TEST_F(Evaluate, RequestsMayBeSentAhead) {
  grpc::ClientContext context;
  const auto call = stub_->EvaluateLogProb(&context);
  std::thread writer([&] {
    for (uint64_t i = 0; i < 40; ++i) {
      call->Write(Asking(Draws(i, 1 + i % 3), i == 0 ? "toy" : ""));
    }
    call->WritesDone();
  });
  v1::EvaluateLogProbResponse response;
  uint64_t next = 0;
  while (call->Read(&response)) {
    std::vector<double> log_q(1 + next % 3);
    ASSERT_TRUE(FromBytes(response.log_q(), absl::MakeSpan(log_q)));
    EXPECT_EQ(log_q[0], DrawToy(flow_, NamedStream("s"), next).log_q);
    ++next;
  }
  writer.join();
  EXPECT_TRUE(call->Finish().ok());
  EXPECT_EQ(next, 40);
}

TEST_F(Evaluate, BadMessagesNameTheField) {
  const auto refused = [&](const v1::EvaluateLogProbRequest& request) {
    const grpc::Status status = StatusOf(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  const std::vector<float> phi = Draws(0, 2);
  EXPECT_THAT(refused(Asking(phi)), HasSubstr("model.model: is required"));
  EXPECT_THAT(refused(Asking({}, "toy")), HasSubstr("phi: has 0 bytes"));
  EXPECT_THAT(refused(Asking({1, 2, 3}, "toy")), HasSubstr("phi: has 12 byt"));
  EXPECT_THAT(refused(Asking(std::vector<float>(16 * 32769), "toy")),
              HasSubstr("1 to 32768 configurations of 64 bytes"));
  v1::EvaluateLogProbRequest request = Asking(phi, "toy");
  request.set_crc32c(request.crc32c() + 1);
  EXPECT_THAT(refused(request), HasSubstr("crc32c: "));
  std::vector<float> infinite = phi;
  infinite[16 + 3] = INFINITY;
  EXPECT_THAT(refused(Asking(infinite, "toy")),
              HasSubstr("not finite at site 3 of configuration 1"));
  infinite[16 + 3] = std::nanf("");
  EXPECT_THAT(refused(Asking(infinite, "toy")), HasSubstr("phi: is not"));
  request = Asking(phi, "toy");
  request.mutable_model()->set_policy(v1::VERSION_POLICY_FOLLOW);
  EXPECT_THAT(refused(request), HasSubstr("model.policy: "));
  EXPECT_EQ(CodeAndReason(StatusOf(Asking(phi, "nothing"))),
            "NOT_FOUND MODEL_NOT_FOUND");
  request = Asking(phi, "toy");
  request.set_phi(std::string(3 << 20, 'x'));
  EXPECT_EQ(StatusOf(request).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);

  grpc::ClientContext context;
  const auto call = stub_->EvaluateLogProb(&context);
  v1::EvaluateLogProbResponse response;
  call->Write(Asking(phi, "toy"));
  EXPECT_TRUE(call->Read(&response));
  call->Write(Asking(phi, "toy"));
  EXPECT_FALSE(call->Read(&response));
  EXPECT_THAT(call->Finish().error_message(), HasSubstr("model: is set in a"));
}

TEST_F(Evaluate, NothingSentIsNothingWrong) {
  grpc::ClientContext context;
  const auto call = stub_->EvaluateLogProb(&context);
  call->WritesDone();
  v1::EvaluateLogProbResponse response;
  EXPECT_FALSE(call->Read(&response));
  EXPECT_TRUE(call->Finish().ok());
}

TEST_F(Evaluate, CancelsLeaveNothingBehind) {
  for (int i = 0; i < 50; ++i) {
    grpc::ClientContext context;
    const auto call = stub_->EvaluateLogProb(&context);
    v1::EvaluateLogProbResponse response;
    if (i % 3 > 0) call->Write(Asking(Draws(0, 100), "toy"));
    if (i % 3 > 1) call->Read(&response);
    context.TryCancel();
    while (call->Read(&response)) {
    }
    EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  // Those that were cancelled before they had sent anything may never have
  // come: a third.
  const auto ended = [&](const std::string& reason) {
    return MetricValue(
        server_->metrics().Text(),
        "latticed_streams_terminated_total{reason=\"" + reason + "\"}");
  };
  EXPECT_TRUE(Eventually([&] { return ended("client_cancel") >= 33; }));
  EXPECT_TRUE(Eventually([&] {
    return MetricValue(server_->metrics().Text(),
                       "latticed_rpc_in_flight{method=\"EvaluateLogProb\","
                       "service=\"SamplerService\"}") == 0;
  }));
  EXPECT_EQ(ended("complete"), 0);
  EXPECT_TRUE(StatusOf(Asking(Draws(0, 5), "toy")).ok());
}

TEST_F(Evaluate, TooManyCallsAreRefusedAndComeBack) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<Call>> calls;
  v1::EvaluateLogProbResponse response;
  for (int i = 0; i < EvaluateCall::kCallsMax; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    calls.push_back(stub_->EvaluateLogProb(contexts.back().get()));
    ASSERT_TRUE(calls.back()->Write(Asking(Draws(0, 1), "toy")));
    ASSERT_TRUE(calls.back()->Read(&response)) << i;
  }
  EXPECT_EQ(CodeAndReason(StatusOf(Asking(Draws(0, 1), "toy"))),
            "RESOURCE_EXHAUSTED QUEUE_FULL");
  for (auto& call : calls) {
    call->WritesDone();
    EXPECT_TRUE(call->Finish().ok());
  }
  EXPECT_TRUE(
      Eventually([&] { return StatusOf(Asking(Draws(0, 1), "toy")).ok(); }));
}

TEST_F(Evaluate, ASilentClientLosesItsCall) {
  config_.stall_seconds = 1;
  Restart();
  grpc::ClientContext context;
  const auto call = stub_->EvaluateLogProb(&context);
  v1::EvaluateLogProbResponse response;
  EXPECT_FALSE(call->Read(&response));
  EXPECT_EQ(CodeAndReason(call->Finish()), "DEADLINE_EXCEEDED STREAM_STALLED");
}

TEST_F(Evaluate, AStoppingServerAnswersWhatItHas) {
  grpc::ClientContext idle_context, busy_context;
  const auto idle = stub_->EvaluateLogProb(&idle_context);
  const auto busy = stub_->EvaluateLogProb(&busy_context);
  v1::EvaluateLogProbResponse response;
  ASSERT_TRUE(idle->Write(Asking(Draws(0, 1), "toy")));
  ASSERT_TRUE(idle->Read(&response));
  ASSERT_TRUE(busy->Write(Asking(Draws(0, 16 * 500), "toy")));  // 100 ms
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  std::thread stop([&] { server_->Drain(); });
  EXPECT_TRUE(busy->Read(&response));
  EXPECT_EQ(response.log_q().size(), 16 * 500 * 8);
  EXPECT_FALSE(busy->Read(&response));
  EXPECT_EQ(CodeAndReason(busy->Finish()), "UNAVAILABLE DRAINING");
  EXPECT_FALSE(idle->Read(&response));
  EXPECT_EQ(CodeAndReason(idle->Finish()), "UNAVAILABLE DRAINING");
  stop.join();
}

}  // namespace
}  // namespace latticed
