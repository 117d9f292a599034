// Draws/s of the fused tile path against the plain LibTorch path: same spec,
// weights, tile, threads; float32; both under InferenceMode (the plain sampler
// enters it itself).
#include <cstdlib>

#include "bench/flows.h"
#include "bench/paired.h"
#include "core/kernels/parallel.h"

int main(int argc, char** argv) {
  using namespace latticed;
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 9;
  SetComputeThreads(0);
  std::printf("sampling, %d threads: fused, plain\n", ComputeThreads());
  for (const auto& [length, lambda] :
       {std::pair<int64_t, double>{8, 6.008}, {20, 4.807}, {32, 4.572}}) {
    const v1::ModelSpec spec = bench::StandardSpec(length, lambda);
    const Weights weights =
        ParametersToWeights(MakeLayout(spec), bench::StartParameters(spec));
    std::unique_ptr<TileSampler> samplers[2];
    for (const Kernel kernel : {Kernel::kFused, Kernel::kPlain}) {
      SamplerOptions options;
      options.kernel = kernel;
      auto sampler = MakeSampler(spec, weights, options);
      if (!sampler.ok()) {
        std::fprintf(stderr, "%s\n", sampler.status().ToString().c_str());
        return 1;
      }
      samplers[kernel == Kernel::kPlain] = *std::move(sampler);
    }
    const int64_t tile = spec.tile();
    std::vector<float> phi(tile * length * length);
    std::vector<double> log_q(tile), action(tile);
    std::vector<DrawId> ids;
    for (int64_t i = 0; i < tile; ++i) {
      ids.push_back({NamedStream("bench"), static_cast<uint64_t>(i)});
    }
    const auto draw = [&](int which) {
      samplers[which]->Draw(ids, {absl::MakeSpan(phi), absl::MakeSpan(log_q),
                                  absl::MakeSpan(action)});
    };
    bench::Print("draws L=" + std::to_string(length), static_cast<double>(tile),
                 bench::Compare([&] { draw(0); }, [&] { draw(1); }, rounds));
  }
  return 0;
}
