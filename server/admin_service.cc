#include "server/admin_service.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/checkpoint/repository.h"
#include "latticed/build_id.h"
#include "server/errors.h"
#include "server/log.h"
#include "server/watch_call.h"

namespace latticed {
namespace {

// One call. It may end before the work that it asked for: the work then goes
// on, and a request with the same request_id learns what it came to.
class AdminCall final : public grpc::ServerUnaryReactor,
                        public std::enable_shared_from_this<AdminCall> {
 public:
  AdminCall(const ContextRef& context, const char* method)
      : record_(context->metrics, {"AdminService", method}) {}

  static std::shared_ptr<AdminCall> Make(const ContextRef& context,
                                         const char* method) {
    auto call = std::make_shared<AdminCall>(context, method);
    MutexLock lock(call->mutex_);
    call->self_ = call;
    return call;
  }

  // `fill` writes the response; it is not called if the call is over.
  void End(const grpc::Status& status,
           const std::function<void()>& fill = nullptr) {
    {
      MutexLock lock(mutex_);
      if (finished_) return;
      finished_ = true;
      code_ = status.error_code();
      if (status.ok() && fill) fill();
    }
    Finish(status);
  }
  void OnCancel() override {
    End(Error(grpc::StatusCode::CANCELLED, "CANCELLED",
              "the client left; what it asked for may still be done"));
  }
  void OnDone() override {
    std::shared_ptr<AdminCall> self;
    {
      MutexLock lock(mutex_);
      self = std::move(self_);
      record_.End(code_);
    }
  }

 private:
  RpcRecord record_;
  Mutex mutex_;
  std::shared_ptr<AdminCall> self_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::StatusCode code_ ABSL_GUARDED_BY(mutex_) = grpc::StatusCode::UNKNOWN;
};

grpc::Status CheckModelName(const std::string& model) {
  if (ValidModelName(model)) return grpc::Status::OK;
  return InvalidField("model", model.empty()
                                   ? "is required"
                                   : "must match [a-z][a-z0-9-]{0,62}");
}

grpc::Status CheckDigest(const std::string& digest) {
  const bool hex = digest.size() == 64 &&
                   std::all_of(digest.begin(), digest.end(), [](char c) {
                     return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
                   });
  if (hex) return grpc::Status::OK;
  return InvalidField("digest",
                      "must be the 64 hex digits of a version's digest, as "
                      "ListModelVersions gives them");
}

grpc::Status CheckReason(const std::string& reason, bool required) {
  constexpr size_t kReasonMax = 512;
  if (required && reason.empty()) {
    return InvalidField("reason", "is required: others will ask why");
  }
  if (reason.size() <= kReasonMax) return grpc::Status::OK;
  return InvalidField("reason",
                      absl::StrCat("has ", reason.size(), " bytes; at most ",
                                   kReasonMax, " are kept"));
}

grpc::Status CheckRequestId(const std::string& id) {
  if (id.empty() || id.size() == 36) return grpc::Status::OK;
  return InvalidField("request_id",
                      "is no UUID of 36 characters; make one for every "
                      "mutation, or leave it empty");
}

grpc::Status Unavailable(const absl::Status& why) {
  return Error(GrpcCode(why.code()), "REPOSITORY", std::string(why.message()));
}

template <typename... Statuses>
grpc::Status FirstError(const Statuses&... statuses) {
  for (const grpc::Status* status : {&statuses...}) {
    if (!status->ok()) return *status;
  }
  return grpc::Status::OK;
}

v1::ModelVersion DescribeDigest(const FlowStore& store,
                                const std::string& model,
                                const std::string& digest) {
  const auto record = store.RecordByDigest(model, digest);
  return record ? Describe(*record) : v1::ModelVersion();
}

v1::ModelVersion DescribeLive(const FlowStore& store,
                              const std::string& model) {
  const VersionRef live = store.Live(model);
  return live == nullptr ? v1::ModelVersion()
                         : DescribeDigest(store, model, live->digest);
}

}  // namespace

std::shared_ptr<const RequestMemory::Outcome> RequestMemory::Find(
    const std::string& method, const std::string& id) const {
  MutexLock lock(mutex_);
  const auto it = outcomes_.find(method + " " + id);
  return id.empty() || it == outcomes_.end() ? nullptr : it->second;
}

void RequestMemory::Put(const std::string& method, const std::string& id,
                        Outcome outcome) {
  if (id.empty()) return;
  MutexLock lock(mutex_);
  const std::string key = method + " " + id;
  if (!outcomes_
           .emplace(key, std::make_shared<const Outcome>(std::move(outcome)))
           .second) {
    return;
  }
  order_.push_back(key);
  if (order_.size() > kRequestsMax) {
    outcomes_.erase(order_.front());
    order_.pop_front();
  }
}

// A mutation that answers with one version: permission, the fields, what an
// earlier request of the same id came to, and then `act`, which sets the
// outcome, on this thread or another one.
template <typename Request, typename Response>
grpc::ServerUnaryReactor* AdminServiceImpl::Mutate(
    grpc::CallbackServerContext* grpc_context, const char* method,
    const Request& request, Response* response, const grpc::Status& fields,
    const std::function<void(std::function<void(RequestMemory::Outcome)>)>&
        act) {
  const auto call = AdminCall::Make(context_, method);
  std::string principal;
  const grpc::Status allowed =
      context_->authorizer->Check(*grpc_context, Role::kAdmin, &principal);
  const grpc::Status status =
      FirstError(allowed, CheckRequestId(request.request_id()), fields);
  if (!status.ok()) {
    call->End(status);
    return call.get();
  }
  const auto answer = [call, response](const RequestMemory::Outcome& outcome) {
    call->End(outcome.status,
              [&] { *response->mutable_version() = outcome.version; });
  };
  const std::string& id = request.request_id();
  if (const auto before = memory_.Find(method, id)) {
    answer(*before);
    return call.get();
  }
  Log(LogLevel::kInfo,
      absl::StrCat(principal, " asks: ", method, " ", request.model()));
  act([this, answer, method, id](RequestMemory::Outcome outcome) {
    memory_.Put(method, id, outcome);
    answer(outcome);
  });
  return call.get();
}

grpc::ServerUnaryReactor* AdminServiceImpl::RefreshModel(
    grpc::CallbackServerContext* grpc_context,
    const v1::RefreshModelRequest* request,
    v1::RefreshModelResponse* response) {
  const auto call = AdminCall::Make(context_, "RefreshModel");
  std::string principal;
  const std::string& model = request->model();
  const grpc::Status status = FirstError(
      context_->authorizer->Check(*grpc_context, Role::kAdmin, &principal),
      model.empty() ? grpc::Status::OK : CheckModelName(model));
  if (!status.ok()) {
    call->End(status);
    return call.get();
  }
  const bool posted = actions_.post([this, call, model, response] {
    const absl::Status polled = actions_.poll();
    if (!polled.ok()) return call->End(Unavailable(polled));
    call->End(grpc::Status::OK, [&] {
      // Newest first, as many as a reply has room for.
      constexpr int kVersionsMax = 200;
      for (const std::string& name : context_->store->Models()) {
        if (!model.empty() && name != model) continue;
        for (const VersionRecord& record : context_->store->Records(name)) {
          if (response->versions_size() == kVersionsMax) return;
          *response->add_versions() = Describe(record);
        }
      }
    });
  });
  if (!posted) call->End(Busy());
  return call.get();
}

grpc::Status AdminServiceImpl::Busy() {
  return Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL",
               "the thread that reads the repository has too much to do; try "
               "again in a moment")
      .RetryAfter(std::chrono::seconds(1));
}

grpc::ServerUnaryReactor* AdminServiceImpl::PromoteModelVersion(
    grpc::CallbackServerContext* grpc_context,
    const v1::PromoteModelVersionRequest* request,
    v1::PromoteModelVersionResponse* response) {
  const std::string model = request->model(), digest = request->digest();
  return Mutate(
      grpc_context, "PromoteModelVersion", *request, response,
      FirstError(CheckModelName(model), CheckDigest(digest)),
      [this, model, digest](const auto& done) {
        const bool posted = actions_.post([this, model, digest, done] {
          const auto loaded = actions_.load(model, digest);
          const grpc::Status status = loaded.ok()
                                          ? lifecycle_->Promote(*loaded)
                                          : Unavailable(loaded.status());
          done({status, DescribeDigest(*context_->store, model, digest)});
        });
        if (!posted) done({Busy(), {}});
      });
}

grpc::ServerUnaryReactor* AdminServiceImpl::RollbackModel(
    grpc::CallbackServerContext* grpc_context,
    const v1::RollbackModelRequest* request,
    v1::RollbackModelResponse* response) {
  const std::string model = request->model(), reason = request->reason();
  return Mutate(grpc_context, "RollbackModel", *request, response,
                FirstError(CheckModelName(model), CheckReason(reason, false)),
                [this, model, reason](const auto& done) {
                  const grpc::Status status =
                      lifecycle_->Rollback(model, reason);
                  done({status, DescribeLive(*context_->store, model)});
                });
}

grpc::ServerUnaryReactor* AdminServiceImpl::QuarantineModelVersion(
    grpc::CallbackServerContext* grpc_context,
    const v1::QuarantineModelVersionRequest* request,
    v1::QuarantineModelVersionResponse* response) {
  const std::string model = request->model(), digest = request->digest();
  const std::string reason = request->reason();
  return Mutate(
      grpc_context, "QuarantineModelVersion", *request, response,
      FirstError(CheckModelName(model), CheckDigest(digest),
                 CheckReason(reason, true)),
      [this, model, digest, reason](const auto& done) {
        const grpc::Status status =
            lifecycle_->Quarantine(model, digest, reason);
        done({status, DescribeDigest(*context_->store, model, digest)});
      });
}

grpc::ServerUnaryReactor* AdminServiceImpl::UnquarantineModelVersion(
    grpc::CallbackServerContext* grpc_context,
    const v1::UnquarantineModelVersionRequest* request,
    v1::UnquarantineModelVersionResponse* response) {
  const std::string model = request->model(), digest = request->digest();
  return Mutate(
      grpc_context, "UnquarantineModelVersion", *request, response,
      FirstError(CheckModelName(model), CheckDigest(digest)),
      [this, model, digest](const auto& done) {
        const grpc::Status status = lifecycle_->Unquarantine(model, digest);
        done({status, DescribeDigest(*context_->store, model, digest)});
      });
}

grpc::ServerUnaryReactor* AdminServiceImpl::DrainServer(
    grpc::CallbackServerContext* grpc_context, const v1::DrainServerRequest*,
    v1::DrainServerResponse*) {
  const auto call = AdminCall::Make(context_, "DrainServer");
  std::string principal;
  const grpc::Status status =
      context_->authorizer->Check(*grpc_context, Role::kAdmin, &principal);
  call->End(status);
  if (status.ok() && !drain_asked_.exchange(true)) {
    Log(LogLevel::kInfo, absl::StrCat(principal, " asks to drain"));
    if (actions_.drain) actions_.drain();
  }
  return call.get();
}

grpc::ServerUnaryReactor* AdminServiceImpl::GetServerInfo(
    grpc::CallbackServerContext* grpc_context, const v1::GetServerInfoRequest*,
    v1::GetServerInfoResponse* response) {
  const auto call = AdminCall::Make(context_, "GetServerInfo");
  std::string principal;
  const grpc::Status status =
      context_->authorizer->Check(*grpc_context, Role::kAdmin, &principal);
  call->End(status, [&] {
    response->set_build(kBuildId);
    response->set_device(context_->config.device);
    // Of what is live; models of one server may differ.
    std::set<std::string> modes;
    for (const VersionRef& version : context_->store->AllLive()) {
      modes.insert(version->numerics_mode);
    }
    response->set_numerics_mode(absl::StrJoin(modes, " "));
    response->set_uptime_seconds(
        std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                      started_)
            .count());
    for (auto& [flag, value] : Settings(context_->config)) {
      (*response->mutable_config())[flag] = value;
    }
  });
  return call.get();
}

}  // namespace latticed
