#include "server/model_service.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/repository.h"
#include "server/errors.h"
#include "server/watch_call.h"

namespace latticed {
namespace {

size_t PageSize(uint32_t asked) {
  return asked == 0 ? 50 : std::min<size_t>(asked, 200);
}

grpc::Status BadPageToken() {
  return InvalidField("page_token",
                      "is none that this server gave; leave it empty for the "
                      "first page");
}

grpc::Status Authorize(const ContextRef& context,
                       const grpc::CallbackServerContext& grpc_context) {
  std::string principal;
  return context->authorizer->Check(grpc_context, Role::kObserver, &principal);
}

// Ends a call that answers at once.
grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* grpc_context,
                                 RpcRecord record, const grpc::Status& status) {
  record.End(status.error_code());
  grpc::ServerUnaryReactor* reactor = grpc_context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace

v1::Model ModelServiceImpl::Describe(const std::string& name) const {
  v1::Model model;
  model.set_model(name);
  const auto records = context_->store->Records(name);
  model.set_versions(static_cast<uint32_t>(records.size()));
  for (const VersionRecord& record : records) {
    if (record.state == v1::VERSION_STATE_LIVE) {
      *model.mutable_live() = latticed::Describe(record);
    }
  }
  model.set_draws(
      static_cast<uint64_t>(context_->metrics->Figures(name).draws));
  return model;
}

// NOT_FOUND with the names there are, as for a selector.
grpc::Status ModelServiceImpl::CheckModel(const std::string& model) const {
  v1::ModelSelector selector;
  selector.set_model(model);
  VersionRef ignored;
  const grpc::Status status =
      SelectVersion(*context_->store, selector, &ignored);
  const auto models = context_->store->Models();
  const bool known = std::binary_search(models.begin(), models.end(), model);
  return known ? grpc::Status::OK : status;
}

grpc::ServerUnaryReactor* ModelServiceImpl::ListModels(
    grpc::CallbackServerContext* grpc_context,
    const v1::ListModelsRequest* request, v1::ListModelsResponse* response) {
  RpcRecord record(context_->metrics, {"ModelService", "ListModels"});
  const grpc::Status allowed = Authorize(context_, *grpc_context);
  if (!allowed.ok()) return Answer(grpc_context, record, allowed);
  const size_t size = PageSize(request->page_size());
  // The token is the last name of the page before.
  for (const std::string& model : context_->store->Models()) {
    if (model <= request->page_token()) continue;
    if (static_cast<size_t>(response->models_size()) == size) {
      response->set_next_page_token(
          response->models(response->models_size() - 1).model());
      break;
    }
    *response->add_models() = Describe(model);
  }
  const bool bad =
      !request->page_token().empty() && !ValidModelName(request->page_token());
  return Answer(grpc_context, record, bad ? BadPageToken() : grpc::Status::OK);
}

grpc::ServerUnaryReactor* ModelServiceImpl::GetModel(
    grpc::CallbackServerContext* grpc_context,
    const v1::GetModelRequest* request, v1::GetModelResponse* response) {
  RpcRecord record(context_->metrics, {"ModelService", "GetModel"});
  grpc::Status status = Authorize(context_, *grpc_context);
  if (status.ok()) status = CheckModel(request->model());
  if (status.ok()) *response->mutable_model() = Describe(request->model());
  return Answer(grpc_context, record, status);
}

grpc::ServerUnaryReactor* ModelServiceImpl::ListModelVersions(
    grpc::CallbackServerContext* grpc_context,
    const v1::ListModelVersionsRequest* request,
    v1::ListModelVersionsResponse* response) {
  RpcRecord rpc(context_->metrics, {"ModelService", "ListModelVersions"});
  const size_t size = PageSize(request->page_size());
  int64_t before = INT64_MAX;
  grpc::Status status = Authorize(context_, *grpc_context);
  if (status.ok()) status = CheckModel(request->model());
  if (status.ok() && !request->page_token().empty() &&
      !absl::SimpleAtoi(request->page_token(), &before)) {
    status = BadPageToken();
  }
  if (!status.ok()) return Answer(grpc_context, rpc, status);
  for (const VersionRecord& record :
       context_->store->Records(request->model())) {
    if (record.version >= before) continue;
    if (static_cast<size_t>(response->versions_size()) == size) {
      response->set_next_page_token(absl::StrCat(
          response->versions(response->versions_size() - 1).version()));
      break;
    }
    *response->add_versions() = latticed::Describe(record);
  }
  return Answer(grpc_context, rpc, status);
}

grpc::ServerUnaryReactor* ModelServiceImpl::GetModelVersion(
    grpc::CallbackServerContext* grpc_context,
    const v1::GetModelVersionRequest* request,
    v1::GetModelVersionResponse* response) {
  RpcRecord rpc(context_->metrics, {"ModelService", "GetModelVersion"});
  grpc::Status status = Authorize(context_, *grpc_context);
  if (!status.ok()) return Answer(grpc_context, rpc, status);
  const v1::ModelSelector& selector = request->model();
  const FlowStore& store = *context_->store;
  // Known versions are described, loaded or not.
  std::optional<VersionRecord> record;
  if (selector.selection_case() == v1::ModelSelector::kVersion) {
    record = store.Record(selector.model(), selector.version());
  } else if (selector.selection_case() == v1::ModelSelector::kDigest) {
    record = store.RecordByDigest(selector.model(), selector.digest());
  }
  if (!record) {
    VersionRef version;
    status = SelectVersion(store, selector, &version);
    if (status.ok()) record = store.Record(version->model, version->version);
  }
  if (record) *response->mutable_version() = latticed::Describe(*record);
  return Answer(grpc_context, rpc, status);
}

grpc::ServerWriteReactor<v1::WatchModelVersionsResponse>*
ModelServiceImpl::WatchModelVersions(
    grpc::CallbackServerContext* grpc_context,
    const v1::WatchModelVersionsRequest* request) {
  grpc::Status status = Authorize(context_, *grpc_context);
  if (status.ok() && !request->model().empty()) {
    status = CheckModel(request->model());
  }
  return WatchCall::Launch(context_, grpc_context, request->model(),
                           std::move(status));
}

}  // namespace latticed
