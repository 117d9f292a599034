#include "server/server.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/http/address.h"
#include "grpc/support/time.h"
#include "grpcpp/ext/channelz_service_plugin.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "latticed/build_id.h"
#include "server/codec.h"
#include "server/log.h"
#include "server/status_page.h"
#include "server/status_report.h"
#include "server/tokens.h"

namespace latticed {
namespace {

using std::chrono::milliseconds;

// A message of configurations to evaluate; everything else is held to
// kRequestBytesMax.
constexpr int kReceiveBytesMax = kBlockBytesMax + kRequestBytesMax;

milliseconds Milliseconds(double seconds) {
  return milliseconds(static_cast<int64_t>(1000 * seconds));
}

// What a gRPC server that shuts down leaves its calls. Never without end: a
// health Watch would keep it waiting for ever. Not a time of the wall clock,
// which may be set back meanwhile.
gpr_timespec ShutdownTime() { return gpr_time_from_millis(500, GPR_TIMESPAN); }

// Services of gRPC's own on one listener. gRPC adds what is linked in to every
// server of a process; this takes out what does not belong.
struct OwnServices final : public grpc::ServerBuilderOption {
  OwnServices(bool with_reflection, bool with_channelz)
      : reflection(with_reflection), channelz(with_channelz) {}

  const bool reflection;
  const bool channelz;

  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>*
                         plugins) override {
    std::erase_if(*plugins, [this](const auto& plugin) {
      const std::string name = plugin->name();
      return (!reflection && absl::StrContains(name, "reflection")) ||
             (!channelz && absl::StrContains(name, "channelz"));
    });
  }
};

// What both gRPC listeners have in common.
void ConfigureListener(const OwnServices& services,
                       grpc::ServerBuilder* builder_of) {
  grpc::ServerBuilder& builder = *builder_of;
  builder.SetOption(std::make_unique<OwnServices>(services));
  // Two servers on one port would share its connections unnoticed.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1000);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 8 << 10);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  // Connections move on, so that new replicas and certificates are found. What
  // is still open after the grace resumes elsewhere.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 600000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, 1800000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, 600000);
  builder.SetMaxReceiveMessageSize(kRequestBytesMax);
}

absl::Status PortTaken(const char* flag, const std::string& address) {
  return absl::UnavailableError(absl::StrCat(
      "--", flag, ": cannot listen on ", address,
      ": another program has the port (perhaps a server that is still "
      "running), or the address is not this machine's; choose another one, "
      "or port 0 for any free port"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const Config& config, SamplerFactory make_sampler, CouplingsOf couplings,
    const OnEnd& on_end, RuntimeInfo runtime) {
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::channelz::experimental::InitChannelzService();
  const auto models = ListModels(config.repository);
  if (!models.ok()) {
    return absl::Status(
        models.status().code(),
        absl::StrCat("--repository: ", models.status().message()));
  }
  auto key = LoadTokenKey(config);
  if (!key.ok()) return key.status();

  std::unique_ptr<Server> server(new Server());
  auto context = std::make_shared<ServiceContext>();
  context->config = config;
  context->couplings = std::move(couplings);
  context->token_key = *std::move(key);
  context->store = std::make_shared<FlowStore>();
  context->metrics = std::make_shared<Metrics>(std::move(runtime));
  context->calls = std::make_shared<CallRegistry>();
  server->executor_ = std::make_shared<Executor>(config.reply_threads);
  context->executor = server->executor_;
  server->graveyard_ = std::make_shared<Graveyard>();
  context->scheduler = std::make_shared<Scheduler>(
      SchedulerLimits{
          .calls_max = config.calls_max,
          .calls_per_peer_max = config.calls_per_peer_max,
          .draws_per_second_per_peer = config.draws_per_second_per_principal,
          .buffer_bytes_max = config.buffer_bytes_max,
          .blocks_ahead = config.blocks_ahead},
      server->executor_, context->metrics);
  server->context_ = context;
  auto lifecycle = Lifecycle::Create(
      config, context->store, context->metrics, server->executor_,
      [raw = server.get()](const std::string& model, bool serving) {
        raw->SetModelServing(model, serving);
      });
  if (!lifecycle.ok()) return lifecycle.status();
  server->lifecycle_ = *lifecycle;
  server->status_ = std::make_unique<StatusReport>(
      config.device, context->store, context->metrics, *lifecycle);
  context->metrics->OnWeights(
      [weak = std::weak_ptr<Lifecycle>(*lifecycle)](
          const std::string& model, int64_t version, const WeightSums& sums) {
        if (const auto alive = weak.lock()) {
          alive->Observe(model, version, sums);
        }
      });

  if (config.gate_draws > 0) {
    server->gatekeeper_ = std::make_shared<Gatekeeper>(
        config, context->scheduler, context->store, server->lifecycle_);
  }
  server->watcher_ = std::make_unique<Watcher>(
      config, std::move(make_sampler), context->store, context->scheduler,
      server->graveyard_, context->metrics, server->lifecycle_,
      server->gatekeeper_);

  absl::Status status = server->LoadCredentials();
  if (!status.ok()) return status;
  context->authorizer = server->authorizer_;
  status = server->Listen();
  if (status.ok() && !config.admin_listen.empty()) {
    status = server->ListenAdmin(on_end);
  }
  if (status.ok()) status = server->ListenHttp();
  if (!status.ok()) return status;
  server->worker_ = std::make_unique<Worker>(
      context->scheduler, server->graveyard_, context->metrics,
      [on_end] {
        if (on_end) on_end(EndReason::kDeviceLost);
      },
      server->status_->recent());
  for (const char* name : {"", "liveness"}) server->SetServing(name, true);
  server->SetServing("readiness", false);
  status = server->watcher_->Poll();
  if (!status.ok()) return status;
  for (const std::string& model : context->store->Models()) {
    server->SetServing(model, context->store->Live(model) != nullptr);
  }
  server->watcher_->Start();
  if (server->auditor_ != nullptr) server->auditor_->Start();
  server->housekeeper_ =
      std::thread([raw = server.get()] { raw->Housekeep(); });
  server->refresher_ =
      std::thread([raw = server.get()] { raw->RefreshCredentials(); });
  return server;
}

absl::Status Server::LoadCredentials() {
  const Config& config = context_->config;
  if (!config.tls_certificate_file.empty()) {
    auto certificates =
        TlsCertificates::Load({.certificate = config.tls_certificate_file,
                               .key = config.tls_key_file,
                               .client_ca = config.tls_client_ca_file},
                              context_->metrics);
    if (!certificates.ok()) return certificates.status();
    certificates_ = *std::move(certificates);
  }
  auto authorizer = Authorizer::Create(
      config.token_file, !config.tls_client_ca_file.empty(), context_->metrics);
  if (!authorizer.ok()) return authorizer.status();
  authorizer_ = *std::move(authorizer);
  if (!config.audit_peers.empty()) {
    auto auditor = Auditor::Create(config, context_->store, context_->scheduler,
                                   context_->metrics);
    if (!auditor.ok()) return auditor.status();
    auditor_ = *std::move(auditor);
  }
  return absl::OkStatus();
}

absl::Status Server::Listen() {
  sampler_service_ = std::make_unique<SamplerServiceImpl>(context_);
  chain_service_ = std::make_unique<ChainServiceImpl>(context_);
  model_service_ = std::make_unique<ModelServiceImpl>(context_);
  measure_service_ = std::make_unique<MeasureServiceImpl>(context_);
  grpc::EnableDefaultHealthCheckService(true);
  const auto address = ParseAddress(context_->config.listen);
  if (!address.ok()) return address.status();
  grpc::ServerBuilder builder;
  ConfigureListener(
      OwnServices(
          /*with_reflection=*/IsLoopback(*address) && !authorizer_->required(),
          /*with_channelz=*/false),
      &builder);
  builder.AddListeningPort(address->Name(),
                           MakeServerCredentials(certificates_, authorizer_),
                           &grpc_port_);
  builder.SetMaxReceiveMessageSize(kReceiveBytesMax);
  builder.RegisterService(sampler_service_.get());
  builder.RegisterService(chain_service_.get());
  builder.RegisterService(model_service_.get());
  builder.RegisterService(measure_service_.get());
  grpc_ = builder.BuildAndStart();
  if (grpc_ == nullptr || grpc_port_ == 0) {
    return PortTaken("listen", address->Name());
  }
  return absl::OkStatus();
}

absl::Status Server::ListenAdmin(const OnEnd& on_end) {
  admin_service_ = std::make_unique<AdminServiceImpl>(
      context_, lifecycle_,
      AdminActions{
          .drain =
              [on_end] {
                if (on_end) on_end(EndReason::kAdmin);
              },
          .post = [this](auto task) { return watcher_->Post(std::move(task)); },
          .poll = [this] { return watcher_->Poll(); },
          .load =
              [this](const std::string& model, const std::string& digest) {
                return watcher_->Load(model, digest);
              }});
  // Health is a matter of the service that clients use.
  grpc::EnableDefaultHealthCheckService(false);
  const auto address = ParseAddress(context_->config.admin_listen);
  if (!address.ok()) return address.status();
  grpc::ServerBuilder builder;
  ConfigureListener(
      OwnServices(/*with_reflection=*/true, /*with_channelz=*/true), &builder);
  builder.AddListeningPort(address->Name(),
                           MakeServerCredentials(certificates_, authorizer_),
                           &admin_port_);
  builder.RegisterService(admin_service_.get());
  admin_grpc_ = builder.BuildAndStart();
  if (admin_grpc_ == nullptr || admin_port_ == 0) {
    return PortTaken("admin_listen", address->Name());
  }
  return absl::OkStatus();
}

absl::Status Server::ListenHttp() {
  const auto address = ParseAddress(context_->config.http_listen);
  if (!address.ok()) return address.status();
  HttpPages pages;
  pages["/metrics"] = [this] {
    return HttpReply{.type = "text/plain; version=0.0.4; charset=utf-8",
                     .body = context_->metrics->Text()};
  };
  pages["/healthz"] = [] { return HttpReply{.body = "ok\n"}; };
  pages["/readyz"] = [this] {
    if (draining_) return HttpReply{.code = 503, .body = "draining\n"};
    if (context_->store->AllLive().empty()) {
      return HttpReply{.code = 503, .body = "no model is live\n"};
    }
    return HttpReply{.body = "ready\n"};
  };
  pages["/"] = [] {
    return HttpReply{.type = "text/html; charset=utf-8",
                     .body = kStatusHtml,
                     .policy = kStatusPolicy};
  };
  pages["/status.css"] = [] {
    return HttpReply{.type = "text/css; charset=utf-8", .body = kStatusCss};
  };
  pages["/status.js"] = [] {
    return HttpReply{.type = "text/javascript; charset=utf-8",
                     .body = kStatusJs};
  };
  // Takes some work to make: whoever asks often shares it.
  pages["/status.json"] = [this] {
    const absl::StatusOr<std::string> json = status_->Json(draining_);
    if (!json.ok()) {
      return HttpReply{.code = 500,
                       .body = std::string(json.status().message())};
    }
    return HttpReply{
        .type = "application/json", .body = *json, .period = milliseconds(500)};
  };
  auto http = HttpServer::Start(*address, std::move(pages));
  if (!http.ok()) return http.status();
  http_ = *std::move(http);
  return absl::OkStatus();
}

void Server::SetServing(const std::string& name, bool serving) {
  if (draining_) return;
  grpc_->GetHealthCheckService()->SetServingStatus(name, serving);
}

void Server::SetModelServing(const std::string& model, bool serving) {
  SetServing(model, serving);
  // Called before the model's last version is taken away.
  const auto live = context_->store->AllLive();
  const bool others = std::any_of(
      live.begin(), live.end(),
      [&model](const VersionRef& version) { return version->model != model; });
  SetServing("readiness", serving || others);
}

int Server::models() const {
  return static_cast<int>(context_->store->AllLive().size());
}

void Server::Housekeep() {
  const milliseconds period =
      std::clamp(Milliseconds(context_->config.stall_seconds / 10),
                 milliseconds(20), milliseconds(1000));
  while (true) {
    {
      MutexLock lock(mutex_);
      if (!stopped_) wake_.WaitFor(mutex_, period);
      if (stopped_) return;
    }
    context_->calls->CheckStalled(std::chrono::steady_clock::now());
    status_->Tick();
  }
}

void Server::RefreshCredentials() {
  const milliseconds period =
      Milliseconds(context_->config.credentials_seconds);
  auto due = std::chrono::steady_clock::now() + period;
  while (true) {
    {
      MutexLock lock(mutex_);
      if (!stopped_) wake_.WaitFor(mutex_, period);
      if (stopped_) return;
    }
    // Others wake it as well.
    if (std::chrono::steady_clock::now() < due) continue;
    if (certificates_ != nullptr) certificates_->Refresh();
    authorizer_->Refresh();
    due = std::chrono::steady_clock::now() + period;
  }
}

void Server::Drain() {
  if (draining_.exchange(true)) return;
  const Config& config = context_->config;
  // Balancers see NOT_SERVING and stop sending before calls are refused.
  grpc_->GetHealthCheckService()->SetServingStatus(false);
  std::this_thread::sleep_for(Milliseconds(config.lame_duck_seconds));
  context_->calls->Drain();
  if (!context_->calls->WaitEmpty(Milliseconds(config.drain_seconds))) {
    Log(LogLevel::kWarning,
        "calls are still open after --drain_seconds; they are cut off");
  }
  grpc_->Shutdown(ShutdownTime());
  if (admin_grpc_ != nullptr) admin_grpc_->Shutdown(ShutdownTime());
  StopHousekeeping();
}

void Server::StopHousekeeping() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    wake_.NotifyAll();
  }
  if (housekeeper_.joinable()) housekeeper_.join();
}

Server::~Server() {
  if (!draining_.exchange(true)) {
    if (admin_grpc_ != nullptr) admin_grpc_->Shutdown(ShutdownTime());
    context_->calls->Drain();
    if (grpc_ != nullptr) grpc_->Shutdown(ShutdownTime());
  }
  StopHousekeeping();
  // Not in Drain: a mount that hangs would hang it.
  if (refresher_.joinable()) refresher_.join();
  http_ = nullptr;
  auditor_ = nullptr;
  watcher_ = nullptr;
  gatekeeper_ = nullptr;
  admin_grpc_ = nullptr;
  grpc_ = nullptr;
  context_->scheduler->Stop();
  worker_ = nullptr;
  executor_->Stop();
}

}  // namespace latticed
