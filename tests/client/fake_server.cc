#include "tests/client/fake_server.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numbers>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/sample_reader.h"
#include "core/wire/block.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/server_builder.h"

namespace latticed::testing {
namespace {

constexpr uint64_t kDrawsPerBlock = 64;

StreamId StreamOf(bool given, const v1::RngStream& stream) {
  if (!given) return FreshStream();
  if (stream.has_id()) return StreamId::FromBytes(stream.id());
  return NamedStream(stream.name());
}

v1::ModelSpec Spec() {
  v1::ModelSpec spec;
  auto* phi4 = spec.mutable_action()->mutable_phi4()->mutable_latticed();
  phi4->set_mass_squared(kMassSquared);
  phi4->set_lambda(kLambda);
  spec.mutable_lattice()->add_extent(kLength);
  spec.mutable_lattice()->add_extent(kLength);
  return spec;
}

v1::Provenance MakeProvenance(int version, const StreamId& stream,
                              uint64_t first) {
  v1::Provenance provenance;
  provenance.set_model("gauss");
  provenance.set_version(version);
  provenance.set_digest(FakeServer::Digest(version));
  *provenance.mutable_action() = Spec().action();
  *provenance.mutable_lattice() = Spec().lattice();
  provenance.set_numerics_mode("float32 fake");
  provenance.set_stream_id(stream.Bytes());
  provenance.set_first_index(first);
  return provenance;
}

grpc::Status CheckModel(const v1::ModelSelector& selector) {
  if (selector.model() == "gauss") return grpc::Status::OK;
  return DetailedStatus(
      grpc::StatusCode::NOT_FOUND,
      absl::StrCat("model '", selector.model(), "' is not in this repository"),
      "MODEL_NOT_FOUND");
}

template <typename Message>
void SetPayload(const std::vector<FakeDraw>& draws, bool wrong_crc,
                Message* block) {
  std::vector<double> log_q, action;
  std::vector<float> phi;
  for (const FakeDraw& draw : draws) {
    log_q.push_back(draw.log_q);
    action.push_back(draw.action);
    phi.insert(phi.end(), draw.phi.begin(), draw.phi.end());
  }
  block->set_log_q(std::string(BytesOf(log_q)));
  block->set_action(std::string(BytesOf(action)));
  block->set_phi(std::string(BytesOf(phi)));
  block->set_crc32c(BlockCrc32c(block->log_q(), block->action(), block->phi()) ^
                    (wrong_crc ? 1 : 0));
}

// A token is the chain's state in plain bytes.
struct State {
  uint64_t stream_low = 0;
  uint32_t stream_high = 0;
  uint32_t thinning = 1;
  uint64_t step = 0;
  uint64_t index = 0;
  uint64_t accepted = 0;
  uint64_t run = 0;
  uint64_t longest = 0;
};

std::string TokenOf(const State& state) {
  return std::string(reinterpret_cast<const char*>(&state), sizeof state);
}

}  // namespace

FakeDraw DrawOf(const StreamId& stream, uint64_t index) {
  FakeDraw draw;
  draw.phi.resize(kSites);
  Normals(stream, index, Purpose::kBaseDraw, absl::MakeSpan(draw.phi));
  draw.log_q = -0.5 * kSites * std::log(2 * std::numbers::pi * kVariance);
  for (float& value : draw.phi) {
    value = static_cast<float>(value * std::sqrt(kVariance));
    draw.log_q -= static_cast<double>(value) * value / (2 * kVariance);
  }
  const auto at = [&](int64_t x, int64_t y) -> double {
    return draw.phi[x % kLength * kLength + y % kLength];
  };
  for (int64_t x = 0; x < kLength; ++x) {
    for (int64_t y = 0; y < kLength; ++y) {
      const double f = at(x, y);
      const double d0 = at(x + 1, y) - f;
      const double d1 = at(x, y + 1) - f;
      draw.action +=
          d0 * d0 + d1 * d1 + kMassSquared * f * f + kLambda * f * f * f * f;
    }
  }
  return draw;
}

std::string FakeServer::Digest(int version) {
  return absl::StrCat("0123456789abcde", version, std::string(48, 'f'));
}

grpc::Status DetailedStatus(grpc::StatusCode code, const std::string& message,
                            const std::string& reason, const std::string& field,
                            const std::string& description,
                            int retry_delay_ms) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("latticed");
  status.add_details()->PackFrom(info);
  if (!field.empty()) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(field);
    violation->set_description(description);
    status.add_details()->PackFrom(bad);
  }
  if (retry_delay_ms > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_nanos(retry_delay_ms * 1'000'000);
    status.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, status.SerializeAsString());
}

class FakeServer::Sampler : public v1::SamplerService::Service {
 public:
  explicit Sampler(FakeServer* server) : server_(server) {}

  grpc::Status Sample(grpc::ServerContext*, const v1::SampleRequest* request,
                      v1::SampleResponse* response) override {
    if (grpc::Status s = CheckModel(request->model()); !s.ok()) return s;
    const StreamId stream = StreamOf(request->has_stream(), request->stream());
    *response->mutable_provenance() =
        MakeProvenance(1, stream, request->first_index());
    FillBlock(stream, request->first_index(), request->count(), 1, false,
              std::nullopt, response->mutable_block());
    return grpc::Status::OK;
  }

  grpc::Status StreamSamples(
      grpc::ServerContext* context, const v1::StreamSamplesRequest* request,
      grpc::ServerWriter<v1::StreamSamplesResponse>* writer) override {
    Faults faults;
    const int call = server_->sample_calls_++;
    {
      std::lock_guard<std::mutex> lock(server_->mutex_);
      server_->sample_requests_.push_back(*request);
      faults = server_->faults_;
      if (server_->faults_.breaks > 0) --server_->faults_.breaks;
    }
    if (faults.refuse.has_value()) return *faults.refuse;
    if (grpc::Status s = CheckModel(request->model()); !s.ok()) return s;
    const int version = faults.switches_version && call > 0 ? 2 : 1;
    const StreamId stream = StreamOf(request->has_stream(), request->stream());
    v1::StreamSamplesResponse message;
    *message.mutable_header() =
        MakeProvenance(version, stream, request->first_index());
    writer->Write(message);
    uint64_t done = 0;
    for (int blocks = 0; done < request->count(); ++blocks) {
      if (faults.breaks > 0 && blocks == faults.blocks_before_break) {
        return faults.break_status;
      }
      if (faults.ends_early_after == blocks) return grpc::Status::OK;
      if (!server_->Pause(faults, context)) return grpc::Status::CANCELLED;
      const uint64_t n = std::min(kDrawsPerBlock, request->count() - done);
      bool wrong_crc = false;
      {
        std::lock_guard<std::mutex> lock(server_->mutex_);
        if (server_->faults_.wrong_crcs > 0) {
          --server_->faults_.wrong_crcs;
          wrong_crc = true;
        }
      }
      const bool skip = faults.skips_a_draw && blocks == 1;
      message.Clear();
      FillBlock(stream, request->first_index() + done + (skip ? 1 : 0), n,
                version, wrong_crc, faults.non_finite, message.mutable_block());
      if (!writer->Write(message)) return grpc::Status::CANCELLED;
      done += n;
    }
    message.Clear();
    message.mutable_summary()->set_draws(done);
    writer->Write(message);
    return grpc::Status::OK;
  }

 private:
  static void FillBlock(const StreamId& stream, uint64_t first, uint64_t count,
                        int version, bool wrong_crc,
                        std::optional<uint64_t> non_finite,
                        v1::SampleBlock* block) {
    std::vector<FakeDraw> draws;
    for (uint64_t i = 0; i < count; ++i) {
      if (non_finite == first + i) {
        block->add_non_finite(static_cast<uint32_t>(i));
      } else {
        draws.push_back(DrawOf(stream, first + i));
      }
    }
    block->set_first_index(first);
    block->set_count(static_cast<uint32_t>(count));
    block->set_digest_prefix(DigestPrefix(Digest(version)));
    SetPayload(draws, wrong_crc, block);
  }

  FakeServer* const server_;
};

class FakeServer::Chain : public v1::ChainService::Service {
 public:
  explicit Chain(FakeServer* server) : server_(server) {}

  grpc::Status RunChain(
      grpc::ServerContext* context, const v1::RunChainRequest* request,
      grpc::ServerWriter<v1::RunChainResponse>* writer) override {
    Faults faults;
    const int call = server_->chain_calls_++;
    {
      std::lock_guard<std::mutex> lock(server_->mutex_);
      server_->chain_requests_.push_back(*request);
      faults = server_->faults_;
      if (server_->faults_.breaks > 0) --server_->faults_.breaks;
    }
    if (faults.refuse.has_value()) return *faults.refuse;
    State state;
    if (request->has_token()) {
      if (request->token().size() != sizeof state) {
        return DetailedStatus(grpc::StatusCode::INVALID_ARGUMENT,
                              "the chain token is forged or damaged",
                              "CHAIN_TOKEN_INVALID");
      }
      std::memcpy(&state, request->token().data(), sizeof state);
    } else {
      if (grpc::Status s = CheckModel(request->chain().model()); !s.ok()) {
        return s;
      }
      const StreamId stream =
          StreamOf(request->chain().has_stream(), request->chain().stream());
      state.stream_low = stream.low;
      state.stream_high = stream.high;
      state.thinning = std::max(1u, request->chain().thinning());
    }
    const int version = faults.switches_version && call > 0 ? 2 : 1;
    const StreamId stream{state.stream_low, state.stream_high};
    v1::RunChainResponse message;
    *message.mutable_header()->mutable_provenance() =
        MakeProvenance(version, stream, 0);
    message.mutable_header()->set_first_step(state.step);
    message.mutable_header()->set_thinning(state.thinning);
    writer->Write(message);
    const uint64_t end = state.step + request->steps();
    for (int blocks = 0; state.step < end; ++blocks) {
      if (faults.breaks > 0 && blocks == faults.blocks_before_break) {
        return faults.break_status;
      }
      if (faults.ends_early_after == blocks) return grpc::Status::OK;
      if (!server_->Pause(faults, context)) return grpc::Status::CANCELLED;
      message.Clear();
      Advance(stream, std::min(kDrawsPerBlock, end - state.step), &state,
              message.mutable_block());
      {
        std::lock_guard<std::mutex> lock(server_->mutex_);
        if (server_->faults_.wrong_crcs > 0) {
          --server_->faults_.wrong_crcs;
          message.mutable_block()->set_crc32c(message.block().crc32c() ^ 1);
        }
      }
      if (!writer->Write(message)) return grpc::Status::CANCELLED;
    }
    message.Clear();
    v1::ChainSummary& summary = *message.mutable_summary();
    summary.set_steps(state.step);
    summary.set_accepted(state.accepted);
    summary.set_longest_rejection_run(state.longest);
    summary.set_token(TokenOf(state));
    writer->Write(message);
    return grpc::Status::OK;
  }

 private:
  static void Advance(const StreamId& stream, uint64_t steps, State* state,
                      v1::ChainBlock* block) {
    std::vector<FakeDraw> rows;
    block->set_first_step(state->step);
    block->set_steps(static_cast<uint32_t>(steps));
    std::string accept((steps + 7) / 8, '\0');
    uint32_t accepted = 0;
    FakeDraw current = DrawOf(stream, state->index);
    for (uint64_t i = 0; i < steps; ++i) {
      const uint64_t t = state->step++;
      const FakeDraw proposal = DrawOf(stream, t);
      const double log_ratio =
          current.action + current.log_q - proposal.action - proposal.log_q;
      const bool moves =
          t == 0 || std::log(Uniform(stream, t, Purpose::kAccept)) <= log_ratio;
      if (moves) {
        current = proposal;
        state->index = t;
        ++accepted;
        ++state->accepted;
        accept[i / 8] = static_cast<char>(accept[i / 8] | (1 << (i % 8)));
      }
      state->run = moves ? 0 : state->run + 1;
      state->longest = std::max(state->longest, state->run);
      if (t % state->thinning != 0) continue;
      if (block->index_size() == 0 ||
          block->index(block->index_size() - 1) != state->index) {
        block->add_index(state->index);
        rows.push_back(current);
      }
      block->add_row(static_cast<uint32_t>(rows.size()) - 1);
    }
    block->set_accepted(accepted);
    block->set_accept(accept);
    block->set_token(TokenOf(*state));
    SetPayload(rows, false, block);
  }

  FakeServer* const server_;
};

class FakeServer::Models : public v1::ModelService::Service {
 public:
  grpc::Status ListModels(grpc::ServerContext*,
                          const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override {
    // Two pages.
    v1::Model& model = *response->add_models();
    if (request->page_token().empty()) {
      model.set_model("empty");
      response->set_next_page_token("2");
    } else {
      Fill(&model);
    }
    return grpc::Status::OK;
  }

  grpc::Status ListModelVersions(
      grpc::ServerContext*, const v1::ListModelVersionsRequest* request,
      v1::ListModelVersionsResponse* response) override {
    v1::ModelVersion& version = *response->add_versions();
    version.set_model(request->model());
    version.set_version(request->page_token().empty() ? 2 : 1);
    version.set_state(v1::VERSION_STATE_REJECTED);
    version.set_reason("weights.safetensors is truncated");
    if (request->page_token().empty()) response->set_next_page_token("2");
    return grpc::Status::OK;
  }

  grpc::Status GetModel(grpc::ServerContext*,
                        const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override {
    v1::ModelSelector selector;
    selector.set_model(request->model());
    if (grpc::Status s = CheckModel(selector); !s.ok()) return s;
    Fill(response->mutable_model());
    return grpc::Status::OK;
  }

 private:
  static void Fill(v1::Model* model) {
    model->set_model("gauss");
    model->set_versions(1);
    v1::ModelVersion& live = *model->mutable_live();
    live.set_model("gauss");
    live.set_version(1);
    live.set_digest(Digest(1));
    live.set_state(v1::VERSION_STATE_LIVE);
    *live.mutable_manifest()->mutable_spec() = Spec();
    live.mutable_manifest()->mutable_quality()->set_ess(0.5);
  }
};

FakeServer::FakeServer(Faults faults, int port)
    : faults_(std::move(faults)),
      sampler_(std::make_unique<Sampler>(this)),
      chain_(std::make_unique<Chain>(this)),
      models_(std::make_unique<Models>()) {
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port),
                           grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(sampler_.get());
  builder.RegisterService(chain_.get());
  builder.RegisterService(models_.get());
  server_ = builder.BuildAndStart();
}

FakeServer::~FakeServer() { Stop(); }

void FakeServer::Stop() {
  if (stopping_.exchange(true)) return;
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
}

std::string FakeServer::target() const {
  return absl::StrCat("127.0.0.1:", port_);
}

std::vector<v1::StreamSamplesRequest> FakeServer::sample_requests() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return sample_requests_;
}

std::vector<v1::RunChainRequest> FakeServer::chain_requests() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return chain_requests_;
}

bool FakeServer::Pause(const Faults& faults, grpc::ServerContext* context) {
  const auto pause = std::chrono::milliseconds(5);
  int waited_ms = 0;
  while (faults.hangs || waited_ms < faults.block_delay_ms) {
    if (context->IsCancelled() || stopping_) return false;
    std::this_thread::sleep_for(pause);
    waited_ms += 5;
  }
  return true;
}

}  // namespace latticed::testing
