// What the server adds to a stream:
//
//   bench_streaming REPOSITORY
//
//  - 1 MiB blocks of a flow that costs nothing to draw, against a bare gRPC
//    server that sends the same bytes from one place in memory (zero-copy
//    slices), with the same client;
//  - the gaps between the blocks of a stream while 100 versions go live through
//    the gate, against those of a quiet server.
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "bench/paired.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "grpcpp/grpcpp.h"
#include "latticed/v1/model.grpc.pb.h"
#include "latticed/v1/sampler.grpc.pb.h"
#include "server/codec.h"
#include "server/server.h"

namespace latticed {
namespace {

using std::chrono::steady_clock;

constexpr int kBlocks = 512;
constexpr int64_t kDraws = 255;  // of 32 x 32 in a block of 1 MiB
constexpr int kReloads = 100;
constexpr int kRounds = 10;

class FreeSampler final : public TileSampler {
 public:
  const Lattice& lattice() const override { return lattice_; }
  int64_t tile() const override { return kDraws; }
  std::string numerics_mode() const override { return "none"; }
  void Draw(absl::Span<const DrawId>, const DrawSpans& out) override {
    std::fill(out.log_q.begin(), out.log_q.end(), 0.0);
    std::fill(out.action.begin(), out.action.end(), 0.0);
  }
  void Evaluate(absl::Span<const float>, absl::Span<double>,
                absl::Span<double>) override {}

 private:
  const Lattice lattice_{32, 32};
};

// Sends kBlocks messages that all refer to the same memory.
class BareService final
    : public v1::SamplerService::WithRawCallbackMethod_StreamSamples<
          v1::SamplerService::Service> {
 public:
  class Call final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
   public:
    explicit Call(const grpc::ByteBuffer& block) : block_(block) { Next(); }
    void OnWriteDone(bool ok) override { ok ? Next() : End(); }
    void OnDone() override { delete this; }

   private:
    void Next() { left_-- > 0 ? StartWrite(&block_) : End(); }
    void End() { Finish(grpc::Status::OK); }
    const grpc::ByteBuffer block_;
    int left_ = kBlocks;
  };

  explicit BareService(grpc::ByteBuffer block) : block_(std::move(block)) {}
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamSamples(
      grpc::CallbackServerContext*, const grpc::ByteBuffer*) override {
    return new Call(block_);  // deletes itself
  }

 private:
  const grpc::ByteBuffer block_;
};

int Fail(const std::string& what) {
  std::fprintf(stderr, "bench_streaming: %s\n", what.c_str());
  return 1;
}

std::shared_ptr<grpc::Channel> Connect(int port) {
  return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                             grpc::InsecureChannelCredentials());
}

Config BenchConfig(const std::string& repository) {
  Config config;
  config.repository = repository;
  config.listen = config.http_listen = config.admin_listen = "127.0.0.1:0";
  config.poll_seconds = 0.05;
  return config;
}

// Reads a stream to its end, or until `stop`; seconds between its messages, if
// asked for.
bool Read(int port, const std::string& model, uint64_t count,
          uint32_t block_bytes, std::vector<double>* gaps = nullptr,
          const std::atomic<bool>* stop = nullptr) {
  const auto stub = v1::SamplerService::NewStub(Connect(port));
  grpc::ClientContext context;
  v1::StreamSamplesRequest request;
  request.mutable_model()->set_model(model);
  request.mutable_model()->set_policy(v1::VERSION_POLICY_FOLLOW);
  request.set_count(count);
  request.set_block_bytes_max(block_bytes);
  const auto reader = stub->StreamSamples(&context, request);
  v1::StreamSamplesResponse response;
  auto last = steady_clock::now();
  while (reader->Read(&response)) {
    const auto now = steady_clock::now();
    if (gaps != nullptr) {
      gaps->push_back(std::chrono::duration<double>(now - last).count());
    }
    last = now;
    if (stop != nullptr && *stop) context.TryCancel();
  }
  return reader->Finish().ok() || (stop != nullptr && *stop);
}

int Stream(const std::string& work) {
  v1::Manifest manifest;
  manifest.mutable_spec()->mutable_lattice()->add_extent(32);
  manifest.mutable_spec()->mutable_lattice()->add_extent(32);
  const auto published =
      Publish(work, "free", manifest, {{"none", {{1}, {0.0f}}}});
  if (!published.ok()) return Fail(published.status().ToString());
  Config config = BenchConfig(work);
  config.gate_draws = 0;
  const auto server = Server::Start(
      config,
      [](const Checkpoint&,
         int) -> absl::StatusOr<std::unique_ptr<TileSampler>> {
        return std::make_unique<FreeSampler>();
      },
      nullptr);
  if (!server.ok()) return Fail(server.status().ToString());

  const int64_t bytes = kDraws * (32 * 32 * 4 + 16);
  const auto memory = std::make_shared<BlockMemory>(bytes, nullptr);
  std::fill_n(memory->data(), bytes, 0);
  const PayloadField payload[] = {
      {15, {}, absl::string_view(memory->data(), bytes)}};
  BareService bare(EncodeBlock(v1::SampleBlock(), payload, memory));
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  builder.RegisterService(&bare);
  const auto bare_server = builder.BuildAndStart();

  bool ok = true;
  const bench::Paired result = bench::Compare(
      [&] {
        ok = Read((*server)->grpc_port(), "free", kBlocks * kDraws, 1 << 20) &&
             ok;
      },
      [&] { ok = Read(port, "free", kBlocks * kDraws, 1 << 20) && ok; }, 9);
  bare_server->Shutdown();
  if (!ok) return Fail("a stream failed");
  bench::Print("1 MiB blocks: latticed, bare gRPC", kBlocks, result);
  return 0;
}

double P99(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() * 99 / 100];
}

int Reload(const std::string& work, const std::string& repository) {
  const auto versions = ListVersions(repository, "phi4-l8");
  if (!versions.ok()) return Fail(versions.status().ToString());
  const auto flow = ReadVersion(repository, "phi4-l8", versions->back());
  if (!flow.ok()) return Fail(flow.status().ToString());
  const auto publish = [&] {
    return Publish(work, "phi4-l8", flow->manifest, flow->weights).ok();
  };
  if (!publish()) return Fail("cannot publish");
  Config config = BenchConfig(work);
  config.gate_draws = 8192;
  const auto server = Server::Start(
      config,
      [](const Checkpoint& checkpoint, int step_factor) {
        SamplerOptions options;
        options.step_factor = step_factor;
        return MakeSampler(checkpoint.manifest.spec(), checkpoint.weights,
                           options);
      },
      MakeCouplings);
  if (!server.ok()) return Fail(server.status().ToString());
  const int port = (*server)->grpc_port();
  const auto models = v1::ModelService::NewStub(Connect(port));
  const auto live = [&] {
    grpc::ClientContext context;
    v1::GetModelRequest request;
    request.set_model("phi4-l8");
    v1::GetModelResponse response;
    models->GetModel(&context, request, &response);
    return response.model().live().version();
  };
  // The first version's gate is not part of the quiet time.
  std::this_thread::sleep_for(std::chrono::seconds(3));

  const auto measure = [&](const std::function<void()>& meanwhile) {
    std::vector<double> gaps;
    std::atomic<bool> stop{false};
    std::thread reader([&] {
      Read(port, "phi4-l8", uint64_t{1} << 40, 64 << 10, &gaps, &stop);
    });
    meanwhile();
    stop = true;
    reader.join();
    return gaps;
  };
  // In turns, so that a machine whose speed drifts still gives a ratio.
  int reloads = 0;
  steady_clock::duration took{};
  std::vector<double> busy, quiet;
  const auto add = [](const std::vector<double>& gaps,
                      std::vector<double>* all) {
    all->insert(all->end(), gaps.begin(), gaps.end());
  };
  for (int round = 1; round <= kRounds; ++round) {
    const auto start = steady_clock::now();
    add(measure([&] {
          while (reloads < round * kReloads / kRounds && publish()) {
            ++reloads;
            while (live() <= reloads) {
              std::this_thread::sleep_for(std::chrono::milliseconds(10));
            }
          }
        }),
        &busy);
    const auto round_took = steady_clock::now() - start;
    add(measure([&] { std::this_thread::sleep_for(round_took); }), &quiet);
    took += round_took;
  }
  const auto rate = [&](const std::vector<double>& gaps) {
    return static_cast<double>(gaps.size()) /
           std::chrono::duration<double>(took).count();
  };
  std::printf(
      "stream of phi4-l8 during %d reloads: p99 between blocks %.2f ms, quiet "
      "%.2f ms, ratio %.2f; blocks/s %.0f, quiet %.0f\n",
      reloads, 1e3 * P99(busy), 1e3 * P99(quiet), P99(busy) / P99(quiet),
      rate(busy), rate(quiet));
  return reloads == kReloads ? 0 : Fail("not every version went live");
}

int Run(const std::string& repository) {
  SetComputeThreads(0);
  const std::filesystem::path work =
      std::filesystem::temp_directory_path() /
      absl::StrCat("bench-streaming-", ::getpid());
  int code = Stream((work / "free").string());
  if (code == 0) code = Reload((work / "reload").string(), repository);
  std::filesystem::remove_all(work);
  return code;
}

}  // namespace
}  // namespace latticed

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: bench_streaming REPOSITORY\n");
    return 1;
  }
  return latticed::Run(argv[1]);
}
