// Draws/s received by a client over loopback gRPC from a running server against
// draws/s of the same version's sampler in this process with as many threads.
//
//   bench_serving HOST:PORT REPOSITORY MODEL DRAWS [ROUNDS]
//
// The server is another process: scripts/bench starts it and reads its memory.
#include <cstdlib>

#include "bench/paired.h"
#include "client/client.h"
#include "core/factory.h"
#include "core/kernels/parallel.h"

namespace latticed {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

int Run(const std::string& target, const std::string& repository,
        const std::string& model, uint64_t draws, int rounds) {
  SetComputeThreads(0);
  auto client = Client::Connect(target);
  if (!client.ok()) return Fail(client.status());
  const auto live = (*client)->GetModel(model);
  if (!live.ok()) return Fail(live.status());
  const auto checkpoint =
      ReadVersion(repository, model, live->live().version());
  if (!checkpoint.ok()) return Fail(checkpoint.status());
  auto sampler =
      MakeSampler(checkpoint->manifest.spec(), checkpoint->weights, {});
  if (!sampler.ok()) return Fail(sampler.status());

  absl::Status failed;
  const auto served = [&] {
    v1::StreamSamplesRequest request;
    request.mutable_model()->set_model(model);
    request.set_count(draws);
    SampleReader reader = (*client)->StreamSamples(request);
    DrawBlock block;
    while (true) {
      const absl::StatusOr<bool> more = reader.Next(&block);
      if (!more.ok()) failed = more.status();
      if (!more.ok() || !*more) break;
    }
  };
  const int64_t tile = (*sampler)->tile();
  std::vector<float> phi(tile * (*sampler)->lattice().Sites());
  std::vector<double> log_q(tile), action(tile);
  std::vector<DrawId> ids(tile);
  const auto in_process = [&] {
    const StreamId stream = FreshStream();
    for (uint64_t first = 0; first < draws; first += tile) {
      const int64_t n = std::min<int64_t>(tile, draws - first);
      for (int64_t i = 0; i < n; ++i) ids[i] = {stream, first + i};
      (*sampler)->Draw(
          absl::MakeConstSpan(ids).first(n),
          {absl::MakeSpan(phi), absl::MakeSpan(log_q), absl::MakeSpan(action)});
    }
  };
  const bench::Paired result = bench::Compare(served, in_process, rounds);
  if (!failed.ok()) return Fail(failed);
  bench::Print("served, in-process " + model, static_cast<double>(draws),
               result);
  return 0;
}

}  // namespace
}  // namespace latticed

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr,
                 "usage: bench_serving HOST:PORT REPOSITORY MODEL DRAWS "
                 "[ROUNDS]\n");
    return 1;
  }
  return latticed::Run(argv[1], argv[2], argv[3],
                       std::strtoull(argv[4], nullptr, 10),
                       argc > 5 ? std::atoi(argv[5]) : 5);
}
