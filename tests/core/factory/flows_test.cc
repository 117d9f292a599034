// What every kind of flow must do: be invertible, know its density, treat a
// draw by itself, have its symmetries and no others, reweight to the exact Z.
#include "tests/support/flows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <random>

#include "core/factory.h"
#include "core/make_flow.h"
#include "core/theory/free_field.h"
#include "core/theory/phi4.h"
#include "tests/support/statistics.h"

namespace latticed {
namespace {

constexpr int64_t kL = 4, kSites = kL * kL;

at::Tensor Noise(int64_t batch, double scale, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, scale);
  at::Tensor fields = at::empty({batch, kL, kL}, at::kDouble);
  double* data = fields.data_ptr<double>();
  for (int64_t i = 0; i < fields.numel(); ++i) data[i] = normal(generator);
  return fields;
}

at::Tensor Parameters(const v1::ModelSpec& spec, double noise) {
  return at::tensor(at::ArrayRef<float>(FlowParameters(spec, noise)),
                    at::TensorOptions().dtype(at::kDouble));
}

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

Draw Zero(const at::Tensor& phi) {
  return {phi, at::zeros({phi.size(0)}, at::kDouble)};
}

class Flows : public testing::TestWithParam<FlowCase> {
 protected:
  Flows()
      : spec_(FlowSpec(GetParam())),
        flow_(MakeFlow(spec_, Parameters(spec_, 0.2))) {}

  // RK4's error of 12 steps for these weights; rounding for couplings.
  double Tolerance() const { return GetParam().exact ? 1e-11 : 1e-3; }

  // f of the image against the image of f, and the change of log q.
  double Breaking(
      const std::function<at::Tensor(const at::Tensor&)>& map) const {
    const Draw z = Zero(Noise(3, 1, 4));
    const Draw plain = flow_->Forward(z);
    const Draw image = flow_->Forward(Zero(map(z.phi)));
    return std::max(MaxDifference(image.phi, map(plain.phi)),
                    MaxDifference(image.log_q, plain.log_q));
  }
  void ExpectSymmetry(
      bool expected,
      const std::function<at::Tensor(const at::Tensor&)>& map) const {
    if (expected) {
      EXPECT_LT(Breaking(map), 1e-10);
    } else {
      EXPECT_GT(Breaking(map), 1e-3);
    }
  }

  const v1::ModelSpec spec_;
  const std::unique_ptr<const Flow> flow_;
};

TEST_P(Flows, SpecIsValid) {
  EXPECT_TRUE(ValidateModelSpec(spec_).ok()) << ValidateModelSpec(spec_);
}

// Three times the width too, where splines are the identity for most sites.
TEST_P(Flows, ReverseUndoesForward) {
  for (const double scale : {1.0, 3.0}) {
    const Draw z = Zero(Noise(4, scale, 2));
    const Draw phi = flow_->Forward(z);
    const Draw back = flow_->Reverse(phi);
    EXPECT_LT(MaxDifference(back.phi, z.phi), Tolerance());
    EXPECT_LT(MaxDifference(back.log_q, z.log_q), 10 * Tolerance());
    EXPECT_GT(MaxDifference(phi.phi, z.phi), 0.1);
  }
}

TEST_P(Flows, LogQIsMinusTheLogDeterminantOfTheJacobian) {
  for (const double scale : {1.0, 3.0}) {
    const at::Tensor z = Noise(1, scale, 6).requires_grad_();
    const Draw draw = flow_->Forward(Zero(z));
    std::vector<at::Tensor> rows;
    for (int64_t x = 0; x < kSites; ++x) {
      rows.push_back(torch::autograd::grad({draw.phi.flatten()[x]}, {z}, {},
                                           /*retain_graph=*/true)[0]
                         .flatten());
    }
    const double log_determinant =
        std::get<1>(at::slogdet(at::stack(rows))).item<double>();
    EXPECT_NEAR(draw.log_q.item<double>(), -log_determinant, Tolerance());
  }
}

// 2105.12481's code divided by a variance over the batch.
TEST_P(Flows, ADrawDoesNotDependOnItsBatchMates) {
  const Draw z = Zero(Noise(8, 1, 3));
  const Draw all = flow_->Forward(z);
  for (int64_t i = 0; i < 8; ++i) {
    const Draw alone = flow_->Forward(Zero(z.phi.narrow(0, i, 1)));
    EXPECT_LT(MaxDifference(alone.phi[0], all.phi[i]), 1e-12);
    EXPECT_LT(MaxDifference(alone.log_q[0], all.log_q[i]), 1e-12);
  }
}

TEST_P(Flows, HasItsSymmetriesAndNoOthers) {
  const FlowCase& flow = GetParam();
  ExpectSymmetry(flow.z2, [](const at::Tensor& f) { return -f; });
  ExpectSymmetry(flow.point_group,
                 [](const at::Tensor& f) { return f.transpose(1, 2); });
  ExpectSymmetry(flow.point_group,
                 [](const at::Tensor& f) { return f.flip({1}); });
  ExpectSymmetry(flow.even_translations, [](const at::Tensor& f) {
    return at::roll(f, {1, 3}, {1, 2});
  });
  // A translation by one site exchanges even and odd.
  ExpectSymmetry(!spec_.flow().has_coupling(),
                 [](const at::Tensor& f) { return at::roll(f, {1}, {1}); });
}

// E_q[w] / Z = 1 for the free field, whose Z is known. The base is near it and
// wider, so that w has a finite variance.
TEST_P(Flows, ReweightsToTheExactZ) {
  const double mass_squared = 0.8;
  v1::ModelSpec spec = spec_;
  if (!spec.flow().has_equivariant()) {
    spec.mutable_base()->mutable_free_field()->set_mass(0.8);
  }
  at::Tensor parameters = Parameters(spec, 0.02);
  if (GetParam().exact) parameters = 0.4 * parameters;  // nearer the identity
  const auto flow = MakeFlow(spec, parameters);
  const auto base = MakeBase(spec);
  const Phi4 action({kL, kL}, {.mass_squared = mass_squared, .lambda = 0});
  const int64_t draws = GetParam().exact ? 65536 : 4096;
  const Draw draw = flow->Forward(base->FromNormals(Noise(draws, 1, 8)));
  const at::Tensor phi = draw.phi.contiguous();
  const double log_z = FreeFieldLogZ({kL, kL}, mass_squared);
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < draws; ++i) {
    const absl::Span<const double> field(phi.data_ptr<double>() + i * kSites,
                                         kSites);
    const double w = std::exp(-action.Evaluate(field) -
                              draw.log_q[i].item<double>() - log_z);
    sum += w;
    squares += w * w;
  }
  const double mean = sum / draws;
  // Independent draws.
  const double error = std::sqrt((squares / draws - mean * mean) / (draws - 1));
  EXPECT_LT(error, 0.05);
  EXPECT_THAT(mean, IsWithinErrors(1, error));
}

INSTANTIATE_TEST_SUITE_P(All, Flows, testing::ValuesIn(FlowCases()),
                         [](const auto& info) { return info.param.name; });

// A spline outside its interval is the identity, with derivative 1: the
// original code went on with the formula of the last segment there.
TEST(Spline, CountsNoDerivativeOutsideItsInterval) {
  FlowCase spline{"spline",
                  "coupling { layers { count: 2 transform: "
                  "COUPLING_TRANSFORM_SPLINE net { hidden: 6 activation: "
                  "ACTIVATION_TANH } segments: 4 interval: 1 } }"};
  const v1::ModelSpec spec = FlowSpec(spline);
  const auto flow = MakeFlow(spec, Parameters(spec, 0.5));
  const at::Tensor far = at::full({1, kL, kL}, 2.5, at::kDouble);
  const Draw draw = flow->Forward(Zero(far));
  EXPECT_EQ(MaxDifference(draw.phi, far), 0);
  EXPECT_EQ(draw.log_q.item<double>(), 0);
  const Draw near = flow->Forward(Zero(0.2 * far));
  EXPECT_GT(std::abs(near.log_q.item<double>()), 1e-3);
}

}  // namespace
}  // namespace latticed
