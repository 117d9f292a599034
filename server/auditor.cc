#include "server/auditor.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/wire/digest.h"
#include "grpc/support/time.h"
#include "grpcpp/create_channel.h"
#include "latticed/v1/sampler.grpc.pb.h"
#include "server/auth.h"
#include "server/codec.h"
#include "server/log.h"
#include "server/tls.h"

namespace latticed {
namespace {

constexpr size_t kPemBytesMax = size_t{1} << 20;
constexpr size_t kTokenBytesMax = 4096;
constexpr int64_t kBytesMax = int64_t{1} << 20;  // of one audit's draws
constexpr std::chrono::seconds kDeadline{10};

// Of one audit: a tile if that is not too much.
int64_t DrawsOf(const ServedVersion& version) {
  return std::clamp<int64_t>(
      kBytesMax / Block::Bytes(1, version.lattice.Sites(), true), 1,
      version.tile);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Auditor>> Auditor::Create(
    const Config& config, std::shared_ptr<FlowStore> store,
    std::shared_ptr<Scheduler> scheduler, std::shared_ptr<Metrics> metrics) {
  std::unique_ptr<Auditor> auditor(new Auditor(
      config, std::move(store), std::move(scheduler), std::move(metrics)));
  const auto peers = AuditPeers(config);
  if (!peers.ok()) return peers.status();
  for (const std::string& name : *peers) {
    auditor->peers_.push_back({.name = name, .channel = nullptr});
  }
  const absl::Status connected = auditor->Connect();
  if (!connected.ok()) return connected;
  return auditor;
}

void Auditor::Start() {
  thread_ = std::thread([this] { Run(); });
}

absl::Status Auditor::Connect() {
  std::shared_ptr<grpc::ChannelCredentials> credentials =
      grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  if (!config_.audit_ca_file.empty()) {
    auto text = ReadCredentialFile("audit_ca_file", config_.audit_ca_file,
                                   kPemBytesMax, false);
    if (!text.ok()) return text.status();
    ssl.pem_root_certs = *std::move(text);
    if (!config_.tls_certificate_file.empty()) {
      const auto own =
          ReadTlsMaterial({.certificate = config_.tls_certificate_file,
                           .key = config_.tls_key_file,
                           .client_ca = ""},
                          absl::Now());
      if (!own.ok()) return own.status();
      ssl.pem_cert_chain = own->certificate;
      ssl.pem_private_key = own->key;
    }
    credentials = grpc::SslCredentials(ssl);
  }
  std::string token;
  if (!config_.audit_token_file.empty()) {
    const auto text = ReadCredentialFile(
        "audit_token_file", config_.audit_token_file, kTokenBytesMax, true);
    if (!text.ok()) return text.status();
    token = std::string(absl::StripAsciiWhitespace(*text));
  }
  bearer_token_ = token;
  // Channels are kept while their credentials are the same.
  std::string fingerprint = Sha256(absl::StrCat(
      ssl.pem_root_certs, "\n", ssl.pem_cert_chain, "\n", ssl.pem_private_key));
  if (fingerprint == credentials_fingerprint_) return absl::OkStatus();
  credentials_fingerprint_ = std::move(fingerprint);
  for (Peer& peer : peers_) {
    peer.channel = grpc::CreateChannel(peer.name, credentials);
  }
  return absl::OkStatus();
}

Auditor::Auditor(const Config& config, std::shared_ptr<FlowStore> store,
                 std::shared_ptr<Scheduler> scheduler,
                 std::shared_ptr<Metrics> metrics)
    : config_(config),
      store_(std::move(store)),
      scheduler_(std::move(scheduler)),
      metrics_(std::move(metrics)) {}

Auditor::~Auditor() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (call_ != nullptr) call_->TryCancel();
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool Auditor::Stopping() const {
  MutexLock lock(mutex_);
  return stopping_;
}

void Auditor::Run() {
  const std::chrono::milliseconds period(
      static_cast<int64_t>(1000 * config_.audit_seconds));
  for (size_t turn = 0;; ++turn) {
    const auto due = std::chrono::steady_clock::now() + period;
    while (std::chrono::steady_clock::now() < due) {
      MutexLock lock(mutex_);
      if (!stopping_) wake_.WaitFor(mutex_, period);
      if (stopping_) return;
    }
    const std::vector<VersionRef> live = store_->AllLive();
    if (live.empty()) continue;
    // Every model meets every peer.
    const VersionRef& version = live[turn % live.size()];
    Peer& peer = peers_[turn / live.size() % peers_.size()];
    const absl::Status status = Audit(version, peer);
    if (Stopping()) return;
    if (!status.ok()) {
      metrics_->ReplicaAuditFailed();
      // Once until it works again: a peer may be away for hours.
      if (!peer.failing) {
        Log(LogLevel::kWarning,
            absl::StrCat("cannot audit ", version->Name(), " against ",
                         peer.name, ": ", status.message()));
      }
    }
    peer.failing = !status.ok();
    // What cannot be read now is used as it was.
    if (!status.ok()) Connect().IgnoreError();
  }
}

absl::StatusOr<Auditor::Draws> Auditor::DrawHere(const VersionRef& version,
                                                 const StreamId& stream,
                                                 uint64_t first_index) {
  DrawRequest request;
  request.version = version;
  request.stream = stream;
  request.first_index = first_index;
  request.block_draws = DrawsOf(*version);
  request.count = static_cast<uint64_t>(request.block_draws);
  request.background = true;
  std::unique_ptr<DrawJob> job;
  const grpc::Status submitted = scheduler_->Submit(std::move(request), &job);
  if (!submitted.ok()) return absl::CancelledError(submitted.error_message());
  while (!Stopping()) {
    const std::unique_ptr<Block> block = job->Pop();
    if (block == nullptr) {
      if (const grpc::Status failure = job->Failure(); !failure.ok()) {
        return absl::InternalError(failure.error_message());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      continue;
    }
    const BlockFigures figures = Compact(*block);
    const Payloads payloads = PayloadsOf(*block, figures.kept, BlockContent());
    return Draws{.non_finite = figures.non_finite,
                 .log_q = std::string(payloads.log_q),
                 .action = std::string(payloads.action),
                 .phi = std::string(payloads.phi)};
  }
  return absl::CancelledError("the server is stopping");
}

absl::StatusOr<Auditor::Draws> Auditor::DrawThere(const VersionRef& version,
                                                  const Peer& peer,
                                                  const StreamId& stream,
                                                  uint64_t first_index) {
  v1::SampleRequest request;
  request.mutable_model()->set_model(version->model);
  request.mutable_model()->set_digest(version->digest);
  request.mutable_stream()->set_id(stream.Bytes());
  request.set_first_index(first_index);
  request.set_count(static_cast<uint64_t>(DrawsOf(*version)));
  grpc::ClientContext context;
  // A span, not a time of the wall clock, which may be set back meanwhile.
  context.set_deadline(gpr_time_from_seconds(kDeadline.count(), GPR_TIMESPAN));
  if (!bearer_token_.empty()) {
    context.AddMetadata("authorization", "Bearer " + bearer_token_);
  }
  {
    MutexLock lock(mutex_);
    if (stopping_) return absl::CancelledError("the server is stopping");
    call_ = &context;
  }
  v1::SampleResponse response;
  const grpc::Status status = v1::SamplerService::NewStub(peer.channel)
                                  ->Sample(&context, request, &response);
  {
    MutexLock lock(mutex_);
    call_ = nullptr;
  }
  if (!status.ok()) return absl::UnavailableError(status.error_message());
  const v1::Provenance own = MakeProvenance(*version, stream, first_index);
  const v1::Provenance& its = response.provenance();
  if (its.numerics_mode() != own.numerics_mode() ||
      its.server_build() != own.server_build()) {
    return absl::FailedPreconditionError(
        absl::StrCat("it draws as ", its.numerics_mode(), " of build ",
                     its.server_build(), ", this server as ",
                     own.numerics_mode(), " of build ", own.server_build()));
  }
  v1::SampleBlock& block = *response.mutable_block();
  return Draws{
      .non_finite = {block.non_finite().begin(), block.non_finite().end()},
      .log_q = std::move(*block.mutable_log_q()),
      .action = std::move(*block.mutable_action()),
      .phi = std::move(*block.mutable_phi())};
}

absl::Status Auditor::Audit(const VersionRef& version, const Peer& peer) {
  const StreamId stream = FreshStream();
  // Anywhere: what is far out in a stream must be the same too.
  const uint64_t first_index = FreshStream().low >> 1;
  const absl::StatusOr<Draws> there =
      DrawThere(version, peer, stream, first_index);
  if (!there.ok()) return there.status();
  const absl::StatusOr<Draws> here = DrawHere(version, stream, first_index);
  if (!here.ok()) return here.status();
  const bool same = *here == *there;
  metrics_->ReplicaAudited(version->model, same);
  if (!same) {
    Log(LogLevel::kError,
        absl::StrCat("draws of ", version->Name(), " differ from those of ",
                     peer.name, ": stream ", stream.Hex(), ", index ",
                     first_index, " and the ", DrawsOf(*version) - 1,
                     " after it; one of the two machines computes wrong"));
  }
  return absl::OkStatus();
}

}  // namespace latticed
