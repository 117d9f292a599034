// The plain flow: exact cases, symmetries, identities, order of convergence.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <memory>
#include <random>

#include "core/flow/base.h"
#include "core/flow/continuous_flow.h"
#include "core/flow/equivariant_field.h"
#include "core/theory/free_field.h"
#include "core/theory/phi4.h"

namespace latticed {
namespace {

at::Tensor Noise(int64_t batch, const Lattice& lattice, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  at::Tensor fields = at::empty({batch, lattice.l0, lattice.l1}, at::kDouble);
  double* data = fields.data_ptr<double>();
  for (int64_t i = 0; i < fields.numel(); ++i) data[i] = normal(generator);
  return fields;
}

at::Tensor RandomParameters(const EquivariantShape& shape) {
  std::vector<float> start = FreeFieldStart(shape, 0.8, 0.8);
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < shape.KhatSize(); ++i) {
    start[i] += 0.1f * normal(generator);
  }
  return at::tensor(at::ArrayRef<float>(start),
                    at::TensorOptions().dtype(at::kDouble));
}

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// v(phi) = rate phi: a dilation, known exactly.
class Dilation final : public VectorField {
 public:
  explicit Dilation(double rate) : rate_(rate) {}
  Value Evaluate(const at::Tensor& phi, double t) const override {
    return {rate_ * phi,
            at::full({phi.size(0)}, rate_ * phi[0].numel(), phi.options())};
  }

 private:
  double rate_;
};

TEST(ContinuousFlow, DilationChangesLogQByMinusRateTimesVolume) {
  const ContinuousFlow flow(std::make_unique<Dilation>(0.3), /*steps=*/20);
  const at::Tensor z = Noise(8, {4, 4}, 1);
  const Draw x = flow.Forward({z, at::zeros({8}, at::kDouble)});
  // RK4's error of exp(0.3) in 20 steps is 20 (0.3/20)^5 / 120 < 2e-10.
  EXPECT_LT(MaxDifference(x.phi, std::exp(0.3) * z), 1e-8);
  EXPECT_LT(MaxDifference(x.log_q, at::full({8}, -0.3 * 16, at::kDouble)),
            1e-12);
}

TEST(ContinuousFlow, ReverseUndoesForwardToTheIntegrationError) {
  const EquivariantShape shape = MakeEquivariantShape({6, 6}, 3, 3, 3, 16);
  const ContinuousFlow flow(
      std::make_unique<EquivariantField>(shape, RandomParameters(shape)),
      shape.steps);
  const Draw z{Noise(4, shape.lattice, 2), at::zeros({4}, at::kDouble)};
  const Draw back = flow.Reverse(flow.Forward(z));
  EXPECT_LT(MaxDifference(back.phi, z.phi), 1e-5);
  EXPECT_LT(MaxDifference(back.log_q, z.log_q), 1e-4);
  EXPECT_GT(MaxDifference(flow.Forward(z).phi, z.phi), 0.1);
}

// Halving the step divides the error by 2^4: differences of successive
// halvings do the same.
TEST(ContinuousFlow, ErrorFallsAsTheFourthPowerOfTheStep) {
  const EquivariantShape shape = MakeEquivariantShape({4, 4}, 3, 3, 3, 8);
  const Draw z{Noise(4, shape.lattice, 3), at::zeros({4}, at::kDouble)};
  Draw x[3];
  for (int i = 0; i < 3; ++i) {
    x[i] = ContinuousFlow(std::make_unique<EquivariantField>(
                              shape, RandomParameters(shape)),
                          8 << i)
               .Forward(z);
  }
  const double order_phi = std::log2(MaxDifference(x[0].phi, x[1].phi) /
                                     MaxDifference(x[1].phi, x[2].phi));
  const double order_log_q = std::log2(MaxDifference(x[0].log_q, x[1].log_q) /
                                       MaxDifference(x[1].log_q, x[2].log_q));
  EXPECT_NEAR(order_phi, 4, 0.5);
  EXPECT_NEAR(order_log_q, 4, 0.5);
}

TEST(CasMatrix, IsSymmetricAndItsOwnInverse) {
  for (const int64_t length : {2, 3, 6, 8}) {
    const at::Tensor c =
        CasMatrix(length, at::TensorOptions().dtype(at::kDouble));
    EXPECT_LT(MaxDifference(c, c.t()), 1e-14);
    EXPECT_LT(MaxDifference(at::matmul(c, c), at::eye(length, at::kDouble)),
              1e-14);
  }
}

class EquivariantFieldTest : public testing::TestWithParam<Lattice> {
 protected:
  EquivariantFieldTest()
      : shape_(MakeEquivariantShape(GetParam(), 3, 3, 3, 4)),
        field_(shape_, RandomParameters(shape_)) {}

  // The velocity of the image is the image of the velocity; the divergence is
  // unchanged.
  void ExpectCommutes(const std::function<at::Tensor(const at::Tensor&)>& map) {
    const at::Tensor phi = Noise(3, shape_.lattice, 4);
    const auto plain = field_.Evaluate(phi, 0.4);
    const auto image = field_.Evaluate(map(phi), 0.4);
    EXPECT_LT(MaxDifference(image.velocity, map(plain.velocity)), 1e-12);
    EXPECT_LT(MaxDifference(image.divergence, plain.divergence), 1e-11);
  }

  EquivariantShape shape_;
  EquivariantField field_;
};

TEST_P(EquivariantFieldTest, DivergenceIsTheTraceOfTheJacobian) {
  const at::Tensor phi = Noise(1, shape_.lattice, 6).requires_grad_();
  const auto value = field_.Evaluate(phi, 0.3);
  const at::Tensor velocity = value.velocity.flatten();
  double trace = 0;
  for (int64_t x = 0; x < velocity.numel(); ++x) {
    trace += torch::autograd::grad({velocity[x]}, {phi}, {}, true)[0]
                 .flatten()[x]
                 .item<double>();
  }
  EXPECT_NEAR(value.divergence.item<double>(), trace, 1e-10);
}

TEST_P(EquivariantFieldTest, CommutesWithTheLatticesSymmetries) {
  ExpectCommutes([](const at::Tensor& phi) { return -phi; });
  for (int64_t d0 = 0; d0 < shape_.lattice.l0; ++d0) {
    for (int64_t d1 = 0; d1 < shape_.lattice.l1; ++d1) {
      ExpectCommutes([&](const at::Tensor& phi) {
        return phi.roll({d0, d1}, {1, 2});
      });
    }
  }
  for (const int flips : {1, 2, 3}) {
    ExpectCommutes([&](const at::Tensor& phi) {
      std::vector<int64_t> axes;
      if (flips & 1) axes.push_back(1);
      if (flips & 2) axes.push_back(2);
      return phi.flip(axes);
    });
  }
  if (!shape_.lattice.Square()) return;
  for (int turns = 0; turns < 4; ++turns) {
    for (const bool mirror : {false, true}) {
      ExpectCommutes([&](const at::Tensor& phi) {
        const at::Tensor turned = phi.rot90(turns, {1, 2});
        return mirror ? turned.transpose(1, 2) : turned;
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Lattices, EquivariantFieldTest,
                         testing::Values(Lattice{4, 4}, Lattice{5, 5},
                                         Lattice{4, 6}),
                         [](const auto& info) { return info.param.Name(); });

// Linear in the velocity: the flow is Gaussian, up to RK4's error of
// exp(Khat), (1/N)^4 Khat^5 / 120.
TEST(FreeFieldStart, IsTheExactGaussianFlow) {
  const Lattice lattice{4, 6};
  const double mass = 0.7;
  const EquivariantShape shape = MakeEquivariantShape(lattice, 2, 2, 2, 32);
  const std::vector<float> start = FreeFieldStart(shape, mass, 1.0);
  const ContinuousFlow flow(
      std::make_unique<EquivariantField>(
          shape, at::tensor(at::ArrayRef<float>(start),
                            at::TensorOptions().dtype(at::kDouble))),
      shape.steps);
  const Draw x =
      flow.Forward(StandardNormal().FromNormals(Noise(16, lattice, 7)));
  const Phi4 action(lattice, {.mass_squared = mass * mass, .lambda = 0});
  const double log_z = FreeFieldLogZ(lattice, mass * mass);
  for (int64_t i = 0; i < 16; ++i) {
    const at::Tensor phi = x.phi[i].contiguous();
    const double s = action.Evaluate(
        absl::Span<const double>(phi.data_ptr<double>(), lattice.Sites()));
    // log q = -S - log Z; the float32 parameters round at 1e-7 a mode.
    EXPECT_NEAR(x.log_q[i].item<double>(), -s - log_z, 2e-5);
  }
}

// The same density written by the base distribution.
TEST(FreeFieldBase, HasTheExactDensityOfTheFreeField) {
  const Lattice lattice{4, 6};
  const double mass = 0.7;
  const Draw z =
      FreeFieldBase(lattice, mass).FromNormals(Noise(16, lattice, 8));
  const Phi4 action(lattice, {.mass_squared = mass * mass, .lambda = 0});
  for (int64_t i = 0; i < 16; ++i) {
    const at::Tensor phi = z.phi[i].contiguous();
    EXPECT_NEAR(z.log_q[i].item<double>(),
                -action.Evaluate(absl::Span<const double>(
                    phi.data_ptr<double>(), lattice.Sites())) -
                    FreeFieldLogZ(lattice, mass * mass),
                1e-10);
  }
}

TEST(Transfer, KeepsTheFlowOnItsOwnLatticeAndItsSpectrumOnAnother) {
  const EquivariantShape small = MakeEquivariantShape({4, 4}, 2, 2, 3, 4);
  const EquivariantShape same = MakeEquivariantShape({4, 4}, 2, 2, 3, 8);
  const std::vector<float> start = FreeFieldStart(small, 0.9, 0.8);
  EXPECT_EQ(Transfer(small, start, same), start);

  // More features, gates and nodes at zero weight: the same velocity.
  const EquivariantShape wide = MakeEquivariantShape({4, 4}, 4, 3, 5, 8);
  const at::Tensor parameters = RandomParameters(small);
  std::vector<float> values(small.ParameterCount());
  for (int64_t i = 0; i < small.ParameterCount(); ++i) {
    values[i] = parameters[i].item<float>();
  }
  const std::vector<float> widened = Transfer(small, values, wide);
  const at::Tensor phi = Noise(2, {4, 4}, 9);
  const EquivariantField a(small, parameters);
  const EquivariantField b(wide,
                           at::tensor(at::ArrayRef<float>(widened),
                                      at::TensorOptions().dtype(at::kDouble)));
  for (const double t : {0.0, 0.3, 0.5, 1.0}) {
    EXPECT_LT(
        MaxDifference(a.Evaluate(phi, t).velocity, b.Evaluate(phi, t).velocity),
        1e-5);
  }

  // Momenta that 8 x 8 shares with 4 x 4 keep their values.
  const EquivariantShape large = MakeEquivariantShape({8, 8}, 2, 2, 3, 4);
  const std::vector<float> moved = Transfer(small, start, large);
  const MomentumOrbits from(small.lattice), to(large.lattice);
  for (int64_t o = 0; o < from.count(); ++o) {
    const auto [k0, k1] = from.representative[o];
    EXPECT_FLOAT_EQ(moved[to.of_momentum[2 * k0 * 8 + 2 * k1]], start[o]);
  }
}

TEST(MomentumOrbits, AreThoseOfTheSquareAndOfTheRectangle) {
  for (const int64_t l : {6, 8, 12, 20, 32}) {
    EXPECT_EQ(MomentumOrbits({l, l}).count(), (l / 2 + 1) * (l / 2 + 2) / 2);
  }
  EXPECT_EQ(MomentumOrbits({4, 6}).count(), 3 * 4);
  EXPECT_EQ(MomentumOrbits({5, 5}).count(), 6);
  const MomentumOrbits orbits({8, 8});
  int64_t total = 0;
  for (const int32_t size : orbits.size) total += size;
  EXPECT_EQ(total, 64);
  EXPECT_EQ(orbits.of_momentum[0], 0);
  EXPECT_EQ(orbits.of_momentum[1 * 8 + 7], orbits.of_momentum[7 * 8 + 1]);
}

}  // namespace
}  // namespace latticed
