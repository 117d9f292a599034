// Draws through the tile samplers, fused and plain.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "core/stats/log_weights.h"
#include "core/theory/free_field.h"
#include "tests/support/device.h"
#include "tests/support/flows.h"
#include "tests/support/statistics.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

v1::ModelSpec Spec(int64_t l0, int64_t l1, double mass_squared, double lambda) {
  v1::ModelSpec spec;
  auto& couplings = *spec.mutable_action()->mutable_phi4()->mutable_latticed();
  couplings.set_mass_squared(mass_squared);
  couplings.set_lambda(lambda);
  spec.mutable_lattice()->add_extent(l0);
  spec.mutable_lattice()->add_extent(l1);
  spec.mutable_base()->mutable_standard_normal();
  auto& flow = *spec.mutable_flow()->mutable_equivariant();
  flow.set_sine_features(2);
  flow.set_gates(2);
  flow.set_time_nodes(2);
  flow.set_rk4_steps(12);
  spec.set_dtype(v1::DTYPE_FLOAT32);
  spec.set_tile(32);
  return spec;
}

Weights StartWeights(const v1::ModelSpec& spec, double mass, double z,
                     float noise) {
  const EquivariantShape shape = MakeShape(spec);
  std::vector<float> start = FreeFieldStart(shape, mass, z);
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < shape.KhatSize(); ++i) {
    start[i] += noise * normal(generator);
  }
  return ParametersToWeights(LayoutOf(shape), start);
}

struct Drawn {
  std::vector<float> phi;
  std::vector<double> log_q, action;

  double LogW(size_t i) const { return -action[i] - log_q[i]; }
};

Drawn DrawIds(TileSampler& sampler, const std::vector<DrawId>& ids) {
  const size_t sites = sampler.lattice().Sites();
  Drawn out{std::vector<float>(ids.size() * sites),
            std::vector<double>(ids.size()), std::vector<double>(ids.size())};
  for (size_t first = 0; first < ids.size(); first += sampler.tile()) {
    const size_t n = std::min<size_t>(sampler.tile(), ids.size() - first);
    sampler.Draw(absl::MakeConstSpan(ids).subspan(first, n),
                 {absl::MakeSpan(out.phi).subspan(first * sites, n * sites),
                  absl::MakeSpan(out.log_q).subspan(first, n),
                  absl::MakeSpan(out.action).subspan(first, n)});
  }
  return out;
}

std::vector<DrawId> Range(const std::string& name, uint64_t count) {
  std::vector<DrawId> ids;
  for (uint64_t i = 0; i < count; ++i) ids.push_back({NamedStream(name), i});
  return ids;
}

std::unique_ptr<TileSampler> Make(const v1::ModelSpec& spec,
                                  const Weights& weights,
                                  Kernel kernel = Kernel::kFused) {
  auto sampler = MakeSampler(spec, weights, TestOptions(kernel));
  EXPECT_THAT(sampler, IsOk());
  return *std::move(sampler);
}

// A draw alone, last of a partly filled tile among strangers, first of a full
// one: the same bytes, with one thread or two.
void ExpectBytesOfADrawToDependOnItsIdOnly(const v1::ModelSpec& spec,
                                           const Weights& weights,
                                           Kernel kernel) {
  const std::vector<DrawId> some = Range("s", 40);
  Drawn expected;
  for (const int threads : {1, 2}) {
    SetComputeThreads(threads);
    const auto sampler = Make(spec, weights, kernel);
    const size_t sites = sampler->lattice().Sites();
    const Drawn all = DrawIds(*sampler, some);
    if (threads == 1) expected = all;
    EXPECT_EQ(all.phi, expected.phi);
    EXPECT_EQ(all.log_q, expected.log_q);
    std::mt19937 generator(9);
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<DrawId> packed = Range("strangers", generator() % 32);
      const size_t which = generator() % some.size();
      const size_t place = packed.empty() ? 0 : generator() % packed.size();
      packed.insert(packed.begin() + place, some[which]);
      packed.resize(std::min<size_t>(packed.size(), sampler->tile()));
      const Drawn drawn = DrawIds(*sampler, packed);
      EXPECT_EQ(
          std::memcmp(&drawn.phi[place * sites], &expected.phi[which * sites],
                      sites * sizeof(float)),
          0);
      EXPECT_EQ(drawn.log_q[place], expected.log_q[which]);
      EXPECT_EQ(drawn.action[place], expected.action[which]);
    }
  }
  SetComputeThreads(1);
}

// Scoring one's own draws gives their log q back, up to the two integrations'
// error.
void ExpectEvaluateToGiveTheLogQOfADraw(TileSampler& sampler) {
  const Drawn drawn = DrawIds(sampler, Range("score", 24));
  std::vector<double> log_q(24), action(24);
  sampler.Evaluate(drawn.phi, absl::MakeSpan(log_q), absl::MakeSpan(action));
  for (size_t i = 0; i < 24; ++i) {
    EXPECT_NEAR(log_q[i], drawn.log_q[i], 5e-3);
    EXPECT_EQ(action[i], drawn.action[i]);
  }
}

class SamplerTest : public testing::TestWithParam<Kernel> {};

TEST_P(SamplerTest, BytesOfADrawDependOnItsIdOnly) {
  const v1::ModelSpec spec = Spec(6, 6, -4, 6.975);
  ExpectBytesOfADrawToDependOnItsIdOnly(
      spec, StartWeights(spec, 0.7, 0.8, 0.05f), GetParam());
}

// The free field through the sampler: log w is log Z for every draw, up to
// float32 rounding of 1e-7 a site and mode; the propagator within five errors.
TEST_P(SamplerTest, FreeFieldHasItsExactLogZAndPropagator) {
  v1::ModelSpec spec = Spec(4, 6, 0.49, 0);
  spec.mutable_action()->mutable_free_field()->set_mass_squared(0.49);
  const Lattice lattice{4, 6};
  const auto sampler =
      Make(spec, StartWeights(spec, 0.7, 1.0, 0.0f), GetParam());
  constexpr size_t kDraws = 4096;
  const Drawn drawn = DrawIds(*sampler, Range("free", kDraws));
  const double log_z = FreeFieldLogZ(lattice, 0.49);
  const std::vector<double> propagator = FreeFieldPropagator(lattice, 0.49);
  std::vector<double> g(24), g2(24);
  for (size_t i = 0; i < kDraws; ++i) {
    ASSERT_NEAR(drawn.LogW(i), log_z, 2e-3);
    for (int64_t r = 0; r < 24; ++r) {
      double sum = 0;
      for (int64_t x0 = 0; x0 < 4; ++x0) {
        for (int64_t x1 = 0; x1 < 6; ++x1) {
          sum += double{drawn.phi[i * 24 + x0 * 6 + x1]} *
                 drawn.phi[i * 24 + (x0 + r / 6) % 4 * 6 + (x1 + r % 6) % 6];
        }
      }
      g[r] += sum / 24;
      g2[r] += sum / 24 * sum / 24;
    }
  }
  // Independent draws: the error is the standard deviation / sqrt(n).
  for (int64_t r = 0; r < 24; ++r) {
    const double mean = g[r] / kDraws;
    const double error =
        std::sqrt((g2[r] / kDraws - mean * mean) / (kDraws - 1));
    EXPECT_THAT(mean, IsWithinErrors(propagator[r], error)) << r;
  }
}

// log Z of phi^4 on 2 x 2 by the trapezoidal rule, which converges
// exponentially for a smooth integrand that vanishes at the ends: at |phi|
// = 2.7 with lambda = 1, exp(-S) < 1e-24.
double LogZByQuadrature(const Action& action) {
  constexpr int kPoints = 37;
  const double h = 5.4 / (kPoints - 1);
  double sum = 0;
  std::vector<double> phi(4);
  for (int a = 0; a < kPoints; ++a) {
    for (int b = 0; b < kPoints; ++b) {
      for (int c = 0; c < kPoints; ++c) {
        for (int d = 0; d < kPoints; ++d) {
          phi = {a * h - 2.7, b * h - 2.7, c * h - 2.7, d * h - 2.7};
          sum += std::exp(-action.Evaluate(absl::MakeConstSpan(phi)));
        }
      }
    }
  }
  return std::log(sum) + 4 * std::log(h);
}

// E_q[w] = Z for an untrained flow whose weights have finite variance.
TEST_P(SamplerTest, MeanWeightIsThePartitionFunctionOnTwoByTwo) {
  const v1::ModelSpec spec = Spec(2, 2, 0.5, 1);
  const auto action = MakeAction(spec.action(), spec.lattice());
  ASSERT_THAT(action, IsOk());
  static const double exact = LogZByQuadrature(**action);
  const auto sampler =
      Make(spec, StartWeights(spec, 1.2, 0.8, 0.05f), GetParam());
  const Drawn drawn = DrawIds(*sampler, Range("Z", 16384));
  std::vector<double> log_w;
  for (size_t i = 0; i < drawn.log_q.size(); ++i) {
    log_w.push_back(drawn.LogW(i));
  }
  const Estimate log_z = LogZ(log_w);
  EXPECT_GT(Ess(log_w).value, 0.3);
  EXPECT_LT(log_z.error, 0.03);
  EXPECT_THAT(log_z.value, IsWithinErrors(exact, log_z.error));
}

TEST_P(SamplerTest, EvaluateGivesTheLogQOfADraw) {
  const v1::ModelSpec spec = Spec(6, 6, -4, 6.975);
  ExpectEvaluateToGiveTheLogQOfADraw(
      *Make(spec, StartWeights(spec, 0.7, 0.8, 0.03f), GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Kernels, SamplerTest,
                         testing::Values(Kernel::kFused, Kernel::kPlain),
                         [](const auto& info) {
                           return info.param == Kernel::kFused ? "Fused"
                                                               : "Plain";
                         });

class FlowSamplerTest : public testing::TestWithParam<FlowCase> {
 protected:
  FlowSamplerTest() : spec_(FlowSpec(GetParam())) {
    // Neither extents nor nets of whole vectors, where libraries' kernels end
    // otherwise than they go.
    spec_.mutable_lattice()->set_extent(0, 6);
    spec_.mutable_lattice()->set_extent(1, 10);
    weights_ =
        ParametersToWeights(MakeLayout(spec_), FlowParameters(spec_, 0.05));
  }

  v1::ModelSpec spec_;
  Weights weights_;
};

TEST_P(FlowSamplerTest, BytesOfADrawDependOnItsIdOnly) {
  ExpectBytesOfADrawToDependOnItsIdOnly(spec_, weights_, Kernel::kPlain);
}

TEST_P(FlowSamplerTest, EvaluateGivesTheLogQOfADraw) {
  ExpectEvaluateToGiveTheLogQOfADraw(*Make(spec_, weights_, Kernel::kPlain));
}

INSTANTIATE_TEST_SUITE_P(All, FlowSamplerTest, testing::ValuesIn(FlowCases()),
                         [](const auto& info) { return info.param.name; });

TEST(Samplers, FusedAgreesWithPlainToRounding) {
  const v1::ModelSpec spec = Spec(8, 8, -4, 6.008);
  const Weights weights = StartWeights(spec, 0.5, 0.8, 0.05f);
  const auto fused = Make(spec, weights, Kernel::kFused);
  const auto plain = Make(spec, weights, Kernel::kPlain);
  EXPECT_NE(fused->numerics_mode(), plain->numerics_mode());
  const Drawn a = DrawIds(*fused, Range("x", 48));
  const Drawn b = DrawIds(*plain, Range("x", 48));
  for (size_t i = 0; i < a.phi.size(); ++i) {
    ASSERT_NEAR(a.phi[i], b.phi[i], 2e-5);
  }
  for (size_t i = 0; i < 48; ++i) {
    EXPECT_NEAR(a.log_q[i], b.log_q[i], 1e-3);
    EXPECT_NEAR(a.action[i], b.action[i], 1e-2);
  }
}

TEST(MakeSampler, RefusesWeightsOfAnotherShapeAndMissingDevices) {
  const v1::ModelSpec spec = Spec(6, 6, -4, 6.975);
  Weights weights = StartWeights(Spec(8, 8, -4, 6.008), 0.5, 0.8, 0);
  EXPECT_THAT(MakeSampler(spec, weights, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       testing::HasSubstr("khat")));
  weights = StartWeights(spec, 0.5, 0.8, 0);
  SamplerOptions options;
  options.device = "cuda:7";
  options.kernel = Kernel::kPlain;
  EXPECT_THAT(MakeSampler(spec, weights, options),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       testing::HasSubstr("cuda:7")));
  weights.erase("omega");
  EXPECT_THAT(MakeSampler(spec, weights, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       testing::HasSubstr("omega")));
}

}  // namespace
}  // namespace latticed
