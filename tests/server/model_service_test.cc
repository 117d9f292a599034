// ModelService: what the server says about its models.
#include "gmock/gmock.h"
#include "tests/server/health_client.h"
#include "tests/server/serving.h"

namespace latticed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class ModelService : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b", "c"}) {
      ToyFlow flow;
      flow.model = name;
      PublishToy(repository_.path(), flow);
    }
    server_ = StartServer(TestConfig(repository_.path()));
    ASSERT_NE(server_, nullptr);
    stub_ = v1::ModelService::NewStub(Connect(server_->grpc_port()));
  }
  grpc::Status List(const v1::ListModelsRequest& request,
                    v1::ListModelsResponse* response) {
    grpc::ClientContext context;
    return stub_->ListModels(&context, request, response);
  }
  grpc::Status Versions(const v1::ListModelVersionsRequest& request,
                        v1::ListModelVersionsResponse* response) {
    grpc::ClientContext context;
    return stub_->ListModelVersions(&context, request, response);
  }

  TemporaryDirectory repository_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::ModelService::Stub> stub_;
};

TEST_F(ModelService, ListsModelsByNameInPages) {
  v1::ListModelsRequest request;
  request.set_page_size(2);
  v1::ListModelsResponse page;
  ASSERT_TRUE(List(request, &page).ok());
  ASSERT_EQ(page.models_size(), 2);
  EXPECT_EQ(page.models(0).model(), "a");
  EXPECT_EQ(page.models(1).model(), "b");
  EXPECT_EQ(page.models(0).live().version(), 1);
  EXPECT_EQ(page.models(0).live().state(), v1::VERSION_STATE_LIVE);
  EXPECT_EQ(page.models(0).live().manifest().quality().ess(), 0.5);
  EXPECT_THAT(page.models(0).live().numerics_mode(), HasSubstr("toy"));
  request.set_page_token(page.next_page_token());
  v1::ListModelsResponse last;
  ASSERT_TRUE(List(request, &last).ok());
  ASSERT_EQ(last.models_size(), 1);
  EXPECT_EQ(last.models(0).model(), "c");
  EXPECT_EQ(last.next_page_token(), "");
  request.set_page_size(100000);  // coerced, not refused
  request.clear_page_token();
  ASSERT_TRUE(List(request, &page).ok());
  EXPECT_EQ(page.models_size(), 3);
  request.set_page_token("!");
  EXPECT_EQ(CodeAndReason(List(request, &page)),
            "INVALID_ARGUMENT INVALID_FIELD");
}

TEST_F(ModelService, ReflectionListsThePublicServicesOnly) {
  const std::string services = ListServices(Connect(server_->grpc_port()));
  for (const char* service : {"Sampler", "Chain", "Model", "Measure"}) {
    EXPECT_THAT(services, HasSubstr("latticed.v1." + std::string(service)));
  }
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
  EXPECT_THAT(services, Not(HasSubstr("AdminService")));
}

TEST_F(ModelService, CountsDraws) {
  Stream(Connect(server_->grpc_port()), DrawsOf("b", "s", 0, 5000));
  v1::GetModelRequest request;
  request.set_model("b");
  // The last write is counted when it is done, which the client does not see.
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    v1::GetModelResponse response;
    return stub_->GetModel(&context, request, &response).ok() &&
           response.model().draws() == 5000;
  }));
}

TEST_F(ModelService, UnknownModelsListTheKnownOnes) {
  grpc::ClientContext context;
  v1::GetModelRequest request;
  request.set_model("d");
  v1::GetModelResponse response;
  const grpc::Status status = stub_->GetModel(&context, request, &response);
  EXPECT_EQ(CodeAndReason(status), "NOT_FOUND MODEL_NOT_FOUND");
  EXPECT_THAT(status.error_message(), HasSubstr("a, b, c"));
  v1::ListModelVersionsRequest versions;
  versions.set_model("d");
  v1::ListModelVersionsResponse page;
  EXPECT_EQ(CodeAndReason(Versions(versions, &page)),
            "NOT_FOUND MODEL_NOT_FOUND");
  versions.set_model("a");
  versions.set_page_token("x");
  EXPECT_EQ(CodeAndReason(Versions(versions, &page)),
            "INVALID_ARGUMENT INVALID_FIELD");
}

TEST_F(ModelService, VersionsAreNewestFirstWithTheirStates) {
  ToyFlow flow;
  flow.model = "a";
  for (int64_t version = 2; version <= 4; ++version) {
    flow.scale += 0.1f;
    PublishToy(repository_.path(), flow);
    ASSERT_TRUE(Eventually([&] {
      grpc::ClientContext context;
      v1::GetModelRequest request;
      request.set_model("a");
      v1::GetModelResponse response;
      return stub_->GetModel(&context, request, &response).ok() &&
             response.model().live().version() == version;
    }));
  }
  v1::ListModelVersionsRequest request;
  request.set_model("a");
  request.set_page_size(3);
  v1::ListModelVersionsResponse page;
  ASSERT_TRUE(Versions(request, &page).ok());
  std::vector<std::string> states;
  const auto collect = [&] {
    for (const auto& version : page.versions()) {
      states.push_back(std::to_string(version.version()) + " " +
                       v1::VersionState_Name(version.state()).substr(14));
    }
  };
  collect();
  request.set_page_token(page.next_page_token());
  ASSERT_TRUE(Versions(request, &page).ok());
  collect();
  EXPECT_THAT(states,
              ElementsAre("4 LIVE", "3 PREVIOUS", "2 RETIRED", "1 RETIRED"));
  v1::SampleRequest retired;
  retired.mutable_model()->set_model("a");
  retired.mutable_model()->set_version(1);
  retired.set_count(1);
  grpc::ClientContext context;
  v1::SampleResponse response;
  const auto stub = v1::SamplerService::NewStub(Connect(server_->grpc_port()));
  EXPECT_EQ(CodeAndReason(stub->Sample(&context, retired, &response)),
            "FAILED_PRECONDITION VERSION_RETIRED");
  v1::GetModelVersionRequest one;
  one.mutable_model()->set_model("a");
  one.mutable_model()->set_version(1);
  v1::GetModelVersionResponse described;
  grpc::ClientContext get_context;
  ASSERT_TRUE(stub_->GetModelVersion(&get_context, one, &described).ok());
  EXPECT_EQ(described.version().state(), v1::VERSION_STATE_RETIRED);
  EXPECT_EQ(described.version().manifest().version(), 1);
}

}  // namespace
}  // namespace latticed
