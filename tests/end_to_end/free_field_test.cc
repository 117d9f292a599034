// The free field through the whole stack: an exact flow is published, served by
// the real server and drawn by the client over gRPC. Its log Z and propagator
// are known.
#include "core/theory/free_field.h"

#include <gmock/gmock.h>
#include <signal.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <thread>

#include "absl/strings/str_split.h"
#include "client/client.h"
#include "core/factory.h"
#include "tests/client/process.h"
#include "tests/support/statistics.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"

namespace latticed {
namespace {

constexpr double kMassSquared = 0.49;
const Lattice kLattice{6, 6};

void PublishExactFlow(const std::string& repository) {
  v1::Manifest manifest;
  v1::ModelSpec& spec = *manifest.mutable_spec();
  spec.mutable_action()->mutable_free_field()->set_mass_squared(kMassSquared);
  spec.mutable_lattice()->add_extent(kLattice.l0);
  spec.mutable_lattice()->add_extent(kLattice.l1);
  spec.mutable_base()->mutable_standard_normal();
  auto& flow = *spec.mutable_flow()->mutable_equivariant();
  flow.set_sine_features(1);
  flow.set_gates(1);
  flow.set_time_nodes(2);
  flow.set_rk4_steps(24);
  spec.set_dtype(v1::DTYPE_FLOAT32);
  spec.set_tile(64);
  manifest.set_log_weight_reference(FreeFieldLogZ(kLattice, kMassSquared));
  const EquivariantShape shape = MakeShape(spec);
  ASSERT_THAT(Publish(repository, "free-field", manifest,
                      ParametersToWeights(
                          LayoutOf(shape),
                          FreeFieldStart(shape, std::sqrt(kMassSquared), 1.0))),
              IsOk());
}

// "127.0.0.1:PORT" once the server has said so.
std::string WaitForAddress(const std::string& directory) {
  for (int i = 0; i < 600; ++i) {
    std::ifstream file(directory + "/stdout");
    const std::string out((std::istreambuf_iterator<char>(file)), {});
    const size_t at = out.find("grpc=");
    if (at != std::string::npos && out.find('\n', at) != std::string::npos) {
      return out.substr(at + 5, out.find(' ', at) - at - 5);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ADD_FAILURE() << "the server did not start";
  return "";
}

TEST(FreeField, IsExactThroughTheWholeStack) {
  const TemporaryDirectory directory;
  ASSERT_NO_FATAL_FAILURE(PublishExactFlow(directory.File("models")));
  testing::Process server(
      {LATTICED_BINARY, "--repository", directory.File("models"), "--listen",
       "127.0.0.1:0", "--http_listen", "127.0.0.1:0", "--admin_listen",
       "127.0.0.1:0", "--state_directory", directory.File("state")},
      directory.path());
  auto client = Client::Connect(WaitForAddress(directory.path()));
  ASSERT_THAT(client, IsOk());

  constexpr uint64_t kDraws = 8192;
  const double log_z = FreeFieldLogZ(kLattice, kMassSquared);
  v1::StreamSamplesRequest request;
  request.mutable_model()->set_model("free-field");
  request.mutable_stream()->set_name("free field end to end");
  request.set_count(kDraws);
  SampleReader reader = (*client)->StreamSamples(request);
  std::vector<double> g(36), g2(36);
  DrawBlock block;
  while (true) {
    const absl::StatusOr<bool> more = reader.Next(&block);
    ASSERT_THAT(more, IsOk());
    if (!*more) break;
    for (uint64_t i = 0; i < block.size(); ++i) {
      // Float32 rounding of 36 sites and modes, nothing else.
      ASSERT_NEAR(-block.action[i] - block.log_q[i], log_z, 2e-3);
      const float* phi = block.phi.data() + 36 * i;
      for (int r = 0; r < 36; ++r) {
        double sum = 0;
        for (int x = 0; x < 36; ++x) {
          const int y = (x / 6 + r / 6) % 6 * 6 + (x % 6 + r % 6) % 6;
          sum += double{phi[x]} * phi[y];
        }
        g[r] += sum / 36;
        g2[r] += sum / 36 * sum / 36;
      }
    }
  }
  EXPECT_EQ(reader.received(), kDraws);
  EXPECT_GT(reader.weights().Ess(), 1 - 1e-6);
  const std::vector<double> exact = FreeFieldPropagator(kLattice, kMassSquared);
  for (int r = 0; r < 36; ++r) {
    const double mean = g[r] / kDraws;
    // Independent draws.
    const double error =
        std::sqrt((g2[r] / kDraws - mean * mean) / (kDraws - 1));
    EXPECT_THAT(mean, IsWithinErrors(exact[r], error)) << r;
  }

  // q = p: acceptance 1 up to the same rounding, |log w - log w'| < 4e-3.
  v1::RunChainRequest chain;
  chain.mutable_chain()->mutable_model()->set_model("free-field");
  chain.set_steps(2000);
  ChainReader steps = (*client)->RunChain(chain);
  StepBlock step_block;
  while (true) {
    const absl::StatusOr<bool> more = steps.Next(&step_block);
    ASSERT_THAT(more, IsOk());
    if (!*more) break;
  }
  EXPECT_GE(steps.accepted(), 1980u);

  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait().code, 0);
}

}  // namespace
}  // namespace latticed
