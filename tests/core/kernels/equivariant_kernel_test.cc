// The fused kernels against the plain field in float64: right-hand sides to
// rounding, adjoints against autograd.
#include "core/kernels/cpu/equivariant_kernel.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <random>

#include "core/flow/base.h"
#include "core/flow/continuous_flow.h"
#include "core/flow/equivariant_field.h"
#include "hwy/targets.h"

namespace latticed {
namespace {

struct Case {
  Lattice lattice;
  int64_t sines, gates, nodes, steps;
};

std::vector<float> RandomParameters(const EquivariantShape& shape) {
  std::vector<float> parameters = FreeFieldStart(shape, 0.7, 0.8);
  std::mt19937 generator(17);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < shape.KhatSize(); ++i) {
    parameters[i] += 0.1f * normal(generator);
  }
  return parameters;
}

at::Tensor RandomFields(int64_t n, const Lattice& lattice, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  at::Tensor fields = at::empty({n, lattice.l0, lattice.l1}, at::kDouble);
  double* data = fields.data_ptr<double>();
  for (int64_t i = 0; i < fields.numel(); ++i) data[i] = normal(generator);
  return fields;
}

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

at::Tensor Gradient(const at::Tensor& output, const at::Tensor& input) {
  return torch::autograd::grad({output}, {input}, {}, /*retain_graph=*/true)[0];
}

class EquivariantKernelTest : public testing::TestWithParam<Case> {
 protected:
  EquivariantKernelTest()
      : shape_(MakeEquivariantShape(GetParam().lattice, GetParam().sines,
                                    GetParam().gates, GetParam().nodes,
                                    GetParam().steps)),
        parameters_(RandomParameters(shape_)),
        kernel_(shape_),
        space_(kernel_.MakeWorkspace(/*training=*/true)),
        n_(kernel_.Lanes()) {
    kernel_.SetParameters(parameters_);
    plain_parameters_ = at::tensor(at::ArrayRef<float>(parameters_),
                                   at::TensorOptions().dtype(at::kDouble));
  }

  std::unique_ptr<EquivariantField> Plain() const {
    return std::make_unique<EquivariantField>(shape_, plain_parameters_);
  }

  EquivariantShape shape_;
  std::vector<float> parameters_;
  EquivariantKernel<double> kernel_;
  Workspace<double> space_;
  int64_t n_;
  at::Tensor plain_parameters_;
};

// v, div v, J^T u and -(J^T s + grad div v) at a node, between nodes, at the
// end.
TEST_P(EquivariantKernelTest, RightHandSidesEqualAutogradOfThePlainField) {
  const at::Tensor phi = RandomFields(n_, shape_.lattice, 1);
  const at::Tensor s = RandomFields(n_, shape_.lattice, 2);
  for (const int64_t m : {int64_t{0}, int64_t{1}, 2 * shape_.steps}) {
    at::Tensor velocity = at::empty_like(phi), rate = at::empty_like(phi),
               pulled = at::empty_like(phi);
    at::Tensor divergence = at::empty({n_}, at::kDouble);
    kernel_.Evaluate(space_, n_, m, phi.data_ptr<double>(),
                     s.data_ptr<double>(), velocity.data_ptr<double>(),
                     divergence.data_ptr<double>(), rate.data_ptr<double>(),
                     pulled.data_ptr<double>());
    const at::Tensor input = phi.clone().requires_grad_();
    const auto plain =
        Plain()->Evaluate(input, m / (2.0 * static_cast<double>(shape_.steps)));
    const at::Tensor plain_pulled = Gradient((plain.velocity * s).sum(), input);
    const at::Tensor grad_div = Gradient(plain.divergence.sum(), input);
    EXPECT_LT(MaxDifference(velocity, plain.velocity), 1e-10);
    EXPECT_LT(MaxDifference(divergence, plain.divergence), 1e-10);
    EXPECT_LT(MaxDifference(pulled, plain_pulled), 1e-10);
    EXPECT_LT(MaxDifference(rate, -(plain_pulled + grad_div)), 1e-10);
  }
}

TEST_P(EquivariantKernelTest, ForwardAndReverseEqualThePlainFlow) {
  const ContinuousFlow flow(Plain(), shape_.steps);
  const at::Tensor z = RandomFields(n_, shape_.lattice, 3);
  const at::Tensor zero = at::zeros({n_}, at::kDouble);
  for (const bool forward : {true, false}) {
    at::Tensor out = at::empty_like(z), log_q = zero.clone();
    if (forward) {
      kernel_.Forward(space_, n_, z.data_ptr<double>(), out.data_ptr<double>(),
                      log_q.data_ptr<double>());
    } else {
      kernel_.Reverse(space_, n_, z.data_ptr<double>(), out.data_ptr<double>(),
                      log_q.data_ptr<double>());
    }
    const Draw plain =
        forward ? flow.Forward({z, zero}) : flow.Reverse({z, zero});
    EXPECT_LT(MaxDifference(out, plain.phi), 1e-10) << forward;
    // Reverse reports the change along the flow, the plain one against it.
    EXPECT_LT(MaxDifference(log_q, forward ? plain.log_q : -plain.log_q), 1e-9)
        << forward;
  }
}

// The adjoint of z -> phi(1) at a fixed cotangent, in z and in every parameter.
TEST_P(EquivariantKernelTest, BackwardEqualsAutogradOfTheDiscreteMap) {
  plain_parameters_.requires_grad_();
  const ContinuousFlow flow(Plain(), shape_.steps);
  const at::Tensor z = RandomFields(n_, shape_.lattice, 4).requires_grad_();
  const at::Tensor cotangent = RandomFields(n_, shape_.lattice, 5);
  const Draw plain = flow.Forward({z, at::zeros({n_}, at::kDouble)});
  const auto expected = torch::autograd::grad({(plain.phi * cotangent).sum()},
                                              {z, plain_parameters_});

  at::Tensor phi = at::empty_like(cotangent), bar = cotangent.clone();
  at::Tensor score = -z.detach().clone();
  std::vector<double> log_q(n_, 0.0);
  kernel_.ForwardScore(space_, n_, z.data_ptr<double>(), phi.data_ptr<double>(),
                       score.data_ptr<double>(), log_q.data());
  EXPECT_LT(MaxDifference(phi, plain.phi), 1e-10);
  space_.ClearGradient();
  kernel_.Backward(space_, n_, bar.data_ptr<double>());
  at::Tensor gradient = at::zeros({shape_.ParameterCount()}, at::kDouble);
  kernel_.AddGradient(
      space_, absl::MakeSpan(gradient.data_ptr<double>(), gradient.numel()));
  EXPECT_LT(MaxDifference(bar, expected[0]), 1e-10);
  EXPECT_LT(MaxDifference(gradient, expected[1]), 1e-10 * n_ * 16);
}

// The integrated score and autograd's score of the discrete log q differ by
// the integration error only, which falls as h^4: by 16 when N doubles.
TEST_P(EquivariantKernelTest, ScoreConvergesToTheGradientOfLogQ) {
  double error[2];
  for (int i = 0; i < 2; ++i) {
    EquivariantShape shape = shape_;
    shape.steps = 4 * shape_.steps << i;
    EquivariantKernel<double> kernel(shape);
    kernel.SetParameters(parameters_);
    Workspace<double> space = kernel.MakeWorkspace(true);
    const at::Tensor z = RandomFields(n_, shape_.lattice, 6);
    at::Tensor phi = at::empty_like(z), score = -z;
    std::vector<double> log_q(n_, 0.0);
    kernel.ForwardScore(space, n_, z.data_ptr<double>(), phi.data_ptr<double>(),
                        score.data_ptr<double>(), log_q.data());
    // log q of phi through the reverse flow.
    const at::Tensor input = phi.clone().requires_grad_();
    const ContinuousFlow flow(
        std::make_unique<EquivariantField>(shape_, plain_parameters_),
        shape.steps);
    const Draw base = flow.Reverse({input, at::zeros({n_}, at::kDouble)});
    const at::Tensor log_density =
        StandardNormal().LogDensity(base.phi) - base.log_q;
    error[i] = MaxDifference(score, Gradient(log_density.sum(), input));
  }
  EXPECT_LT(error[1], 1e-3);
  EXPECT_GT(error[0] / error[1], 8) << error[0] << " " << error[1];
}

TEST_P(EquivariantKernelTest, FloatAgreesWithDoubleToRounding) {
  EquivariantKernel<float> kernel(shape_);
  kernel.SetParameters(parameters_);
  Workspace<float> space = kernel.MakeWorkspace(false);
  const int64_t n = kernel.Lanes();
  const at::Tensor z = RandomFields(n, shape_.lattice, 7).to(at::kFloat);
  at::Tensor phi = at::empty_like(z);
  std::vector<double> log_q(n, 0.0);
  kernel.Forward(space, n, z.data_ptr<float>(), phi.data_ptr<float>(),
                 log_q.data());
  const Draw plain =
      ContinuousFlow(Plain(), shape_.steps)
          .Forward({z.to(at::kDouble), at::zeros({n}, at::kDouble)});
  EXPECT_LT(MaxDifference(phi.to(at::kDouble), plain.phi), 2e-5);
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_NEAR(log_q[i], plain.log_q[i].item<double>(), 2e-4);
  }
}

// One lane a configuration: neither neighbours, nor place, nor instruction set
// change a bit. What stands in where there are no vectors rounds twice where
// these round once, so it is left out.
TEST_P(EquivariantKernelTest, BitsDependOnTheConfigurationOnly) {
  const at::Tensor z = RandomFields(16, shape_.lattice, 8).to(at::kFloat);
  const int64_t sites = shape_.lattice.Sites();
  const auto draw = [&](int64_t place, int64_t which, int64_t n) {
    EquivariantKernel<float> kernel(shape_);
    kernel.SetParameters(parameters_);
    Workspace<float> space = kernel.MakeWorkspace(false);
    at::Tensor in = z.narrow(0, 0, n).clone();
    in[place] = z[which];
    at::Tensor phi = at::empty_like(in);
    std::vector<double> log_q(n, 0.0);
    kernel.Forward(space, n, in.data_ptr<float>(), phi.data_ptr<float>(),
                   log_q.data());
    std::string bytes(
        reinterpret_cast<const char*>(phi.data_ptr<float>() + place * sites),
        sites * sizeof(float));
    return bytes.append(reinterpret_cast<const char*>(&log_q[place]), 8);
  };
  const int64_t lanes = EquivariantKernel<float>::Lanes();
  if (!FusesMultiplyAdd()) GTEST_SKIP() << "there is no other to compare with";
  const std::string expected = draw(0, 3, 1);
  EXPECT_EQ(draw(0, 3, lanes), expected);
  EXPECT_EQ(draw(lanes - 1, 3, lanes), expected);
  EXPECT_NE(draw(0, 2, 1), expected);
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (target == HWY_SCALAR || target == HWY_EMU128) continue;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    EXPECT_EQ(draw(0, 3, 1), expected) << hwy::TargetName(target);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, EquivariantKernelTest,
    testing::Values(Case{{4, 4}, 3, 3, 3, 4}, Case{{6, 6}, 2, 1, 2, 3},
                    Case{{8, 8}, 9, 4, 4, 3}, Case{{4, 6}, 2, 2, 2, 2},
                    Case{{5, 3}, 2, 2, 2, 2}, Case{{2, 2}, 1, 2, 2, 2}),
    [](const auto& info) {
      const Case& c = info.param;
      return c.lattice.Name() + "F" + std::to_string(c.sines) + "G" +
             std::to_string(c.gates);
    });

}  // namespace
}  // namespace latticed
