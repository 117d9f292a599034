#include "core/montecarlo/configuration_update.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "tests/core/montecarlo/chain_checks.h"

namespace latticed {
namespace {

constexpr Phi4Couplings kL6{.mass_squared = -4, .lambda = 6.975};
using Kind = ConfigurationUpdate::Kind;

std::vector<float> Start(const Lattice& lattice) {
  std::vector<float> phi(static_cast<size_t>(lattice.Sites()));
  Normals(NamedStream("start"), 0, Purpose::kBaseDraw, absl::MakeSpan(phi));
  return phi;
}

// Rounding to float moves <phi_x dS/dphi_y> by about 1e-7, far below the
// errors of 0.01 to 0.02.
TEST(ConfigurationUpdate, LeavesTheDistributionInvariant) {
  const Phi4 action({4, 6}, kL6);
  const StreamId stream = NamedStream("schwinger-dyson");
  for (const ConfigurationUpdate& update :
       {ConfigurationUpdate{.kind = Kind::kCluster, .scale = ClusterWidth(kL6)},
        ConfigurationUpdate{.kind = Kind::kHmc, .repeats = 2}}) {
    uint64_t index = 0;
    std::vector<float> rounded = Start(action.lattice());
    const auto next = [&](std::vector<double>& phi) {
      UpdateConfiguration(update, action, stream, index++,
                          absl::MakeSpan(rounded));
      std::copy(rounded.begin(), rounded.end(), phi.begin());
    };
    std::vector<double> phi(rounded.size());
    for (int i = 0; i < 500; ++i) next(phi);
    ExpectSchwingerDyson(action, phi, next, 40000, 0.03);
  }
}

TEST(ConfigurationUpdate, IsAFunctionOfStreamAndIndex) {
  const Phi4 action({4, 4}, kL6);
  const ConfigurationUpdate update = {.kind = Kind::kCluster, .repeats = 3};
  const auto updated = [&](const char* stream, uint64_t index) {
    std::vector<float> phi = Start(action.lattice());
    UpdateConfiguration(update, action, NamedStream(stream), index,
                        absl::MakeSpan(phi));
    return phi;
  };
  EXPECT_EQ(updated("a", 7), updated("a", 7));
  EXPECT_NE(updated("a", 7), updated("a", 8));
  EXPECT_NE(updated("a", 7), updated("b", 7));
}

// Over the standard ensembles, free fields and couplings far from both; the
// last one has two wells, where less is accepted.
TEST(ConfigurationUpdate, TheDefaultWidthSuits) {
  for (const Phi4Couplings& couplings :
       {kL6, Phi4Couplings{.mass_squared = -4, .lambda = 4.572},
        Phi4Couplings{.mass_squared = 1, .lambda = 0},
        Phi4Couplings{.mass_squared = 20, .lambda = 0.5},
        Phi4Couplings{.mass_squared = -4, .lambda = 60},
        Phi4Couplings{.mass_squared = -5, .lambda = 3}}) {
    const Phi4 action({8, 8}, couplings);
    const ConfigurationUpdate update = {.kind = Kind::kCluster,
                                        .repeats = 500,
                                        .scale = ClusterWidth(couplings)};
    std::vector<float> phi = Start(action.lattice());
    UpdateConfiguration(update, action, NamedStream("width"), 0,
                        absl::MakeSpan(phi));
    const double acceptance = UpdateConfiguration(
        update, action, NamedStream("width"), 1, absl::MakeSpan(phi));
    EXPECT_GT(acceptance, 0.2)
        << couplings.mass_squared << " " << couplings.lambda;
    EXPECT_LT(acceptance, 0.7)
        << couplings.mass_squared << " " << couplings.lambda;
  }
}

}  // namespace
}  // namespace latticed
