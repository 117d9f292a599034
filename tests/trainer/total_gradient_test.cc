// The total gradient against one graph through the whole flow, and trainings
// of every kind of flow that uses it.
#include "trainer/total_gradient.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "core/checkpoint/repository.h"
#include "core/factory.h"
#include "core/make_flow.h"
#include "tests/support/flows.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"
#include "trainer/state_file.h"
#include "trainer/train.h"

namespace latticed {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class TotalGradientTest : public testing::TestWithParam<FlowCase> {};

// S of 2110.02673 eq. 10, in LibTorch.
at::Tensor Phi4Action(const at::Tensor& phi, double mass_squared,
                      double lambda) {
  at::Tensor density =
      mass_squared * phi.square() + lambda * phi.square().square();
  for (const int64_t mu : {1, 2}) {
    density = density + (at::roll(phi, {-1}, {mu}) - phi).square();
  }
  return density.flatten(1).sum(1);
}

TEST_P(TotalGradientTest, IsThatOfOneGraph) {
  v1::ModelSpec spec = FlowSpec(GetParam());
  if (spec.flow().has_coupling()) {
    spec.mutable_base()->mutable_free_field()->set_mass(1);
  }
  const auto action = MakeAction(spec.action(), spec.lattice());
  ASSERT_THAT(action, IsOk());
  const std::vector<float> parameters = FlowParameters(spec, 0.05);
  constexpr int64_t kBatch = 12, kSites = 16;
  const StreamId stream = NamedStream("batch");
  TotalGradient gradient(spec, **action);
  const LossGradientResult result =
      gradient.Compute(parameters, stream, /*first_index=*/5, kBatch);

  at::Tensor z = at::empty({kBatch, 4, 4}, at::kFloat);
  for (int64_t i = 0; i < kBatch; ++i) {
    Normals(stream, 5 + i, Purpose::kBaseDraw,
            absl::MakeSpan(z.data_ptr<float>() + i * kSites, kSites));
  }
  const at::Tensor leaf = at::tensor(at::ArrayRef<float>(parameters),
                                     at::TensorOptions().dtype(at::kDouble))
                              .requires_grad_();
  const Draw draw =
      MakeFlow(spec, leaf)
          ->Forward(MakeBase(spec)->FromNormals(z.to(at::kDouble)));
  const at::Tensor loss = (draw.log_q + Phi4Action(draw.phi, -4, 8)).mean();
  const at::Tensor expected = torch::autograd::grad({loss}, {leaf})[0];
  EXPECT_NEAR(result.loss, loss.item<double>(),
              1e-4 * std::abs(loss.item<double>()));
  EXPECT_EQ(result.non_finite, 0);
  EXPECT_EQ(result.log_w.size(), kBatch);
  // float32 against double: rounding of 6e-8, in a few thousand terms that
  // cancel to a hundredth, of each tensor by itself.
  const at::Tensor found = at::tensor(at::ArrayRef<double>(result.gradient),
                                      at::TensorOptions().dtype(at::kDouble));
  int64_t offset = 0;
  for (const ParameterTensor& tensor : MakeLayout(spec)) {
    const at::Tensor wanted = expected.narrow(0, offset, tensor.Size());
    const at::Tensor got = found.narrow(0, offset, tensor.Size());
    EXPECT_LT((got - wanted).norm().item<double>(),
              1e-3 * wanted.norm().item<double>())
        << tensor.name;
    EXPECT_GT(wanted.norm().item<double>(), 0) << tensor.name;
    offset += tensor.Size();
  }
}

INSTANTIATE_TEST_SUITE_P(All, TotalGradientTest, testing::ValuesIn(FlowCases()),
                         [](const auto& info) { return info.param.name; });

v1::TrainingSpec Training(const FlowCase& flow) {
  v1::TrainingSpec spec;
  const bool parsed = google::protobuf::TextFormat::ParseFromString(
      R"pb(
        seed: 3
        from_random {}
        phase { steps: 60 batch: 64 }
        learning_rate: 0.01
        warmup_steps: 5
        adam_beta1: 0.9
        adam_beta2: 0.99
        clip_norm: 10
        log_every_steps: 10
        checkpoint_every_steps: 7
        evaluation_draws: 1024
      )pb",
      &spec);
  EXPECT_TRUE(parsed);
  *spec.mutable_model() = FlowSpec(flow);
  return spec;
}

class TrainFlow : public testing::TestWithParam<FlowCase> {
 protected:
  TrainFlow() {
    options_.repository = directory_.path();
    options_.model = "toy";
  }
  absl::StatusOr<TrainOutcome> Run(const v1::TrainingSpec& spec) {
    Progress progress(/*quiet=*/true);
    const std::atomic<bool> stop{false};
    auto metrics = TrainerMetrics::Create("", options_.model);
    EXPECT_THAT(metrics, IsOk());
    return Train(options_, spec, &progress, metrics->get(), stop);
  }
  v1::TrainingState State() {
    auto state = ReadTrainingState(directory_.File(".training/toy.state"));
    EXPECT_THAT(state, IsOk());
    state->set_seconds(0);
    state->set_core_seconds(0);
    return *std::move(state);
  }

  TemporaryDirectory directory_;
  TrainOptions options_;
};

// From random weights to a published version that draws what was measured; the
// same bits in one run and in two.
TEST_P(TrainFlow, ImprovesPublishesAndResumesToTheSameBits) {
  const v1::TrainingSpec spec = Training(GetParam());
  const auto start = StartState(options_, spec);
  ASSERT_THAT(start, IsOk());
  const auto action = MakeAction(spec.model().action(), spec.model().lattice());
  const auto loss = [&](const v1::TrainingState& state) {
    return MakeLossGradient(spec.model(), **action)
        ->Compute({state.parameters().data(),
                   static_cast<size_t>(state.parameters_size())},
                  NamedStream("held out"), 0, 512)
        .loss;
  };
  ASSERT_THAT(Run(spec), IsOk());
  const v1::TrainingState whole = State();
  // The loss is D(q||p) - log Z; of 16 sites, a nat is easily won.
  EXPECT_LT(loss(whole), loss(*start) - 1);

  ASSERT_THAT(ListVersions(options_.repository, "toy").value(), ElementsAre(1));
  const auto checkpoint = ReadVersion(options_.repository, "toy", 1);
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_GT(checkpoint->manifest.quality().ess(), 0);
  EXPECT_EQ(checkpoint->manifest.quality().step_doubling_rms() > 0,
            !GetParam().exact);
  EXPECT_THAT(MakeSampler(checkpoint->manifest.spec(), checkpoint->weights, {}),
              IsOk());

  options_.restart = true;
  options_.minutes_max = 1e-9;  // after the first step
  auto outcome = Run(spec);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(*outcome, TrainOutcome::kStopped);
  options_.restart = false;
  options_.minutes_max = 0;
  ASSERT_THAT(Run(spec), IsOk());
  EXPECT_EQ(State().SerializeAsString(), whole.SerializeAsString());
}

// One of each kind that has no path gradient: trainings take seconds.
std::vector<FlowCase> TotalGradientFlows() {
  std::vector<FlowCase> flows = FlowCases();
  std::erase_if(flows, [](const FlowCase& flow) {
    return flow.name != "position_space" && flow.name != "real_nvp" &&
           flow.name != "affine_odd" && flow.name != "spline";
  });
  return flows;
}

INSTANTIATE_TEST_SUITE_P(All, TrainFlow,
                         testing::ValuesIn(TotalGradientFlows()),
                         [](const auto& info) { return info.param.name; });

using TrainStart = TrainFlow;

TEST_P(TrainStart, IsOfItsOwnFlow) {
  v1::TrainingSpec spec = Training(GetParam());
  spec.mutable_from_free_field()->set_mass(1);
  spec.mutable_from_free_field()->set_normalisation(1);
  EXPECT_THAT(Run(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                  HasSubstr("from_free_field")));
  spec.mutable_from_random();
  ASSERT_THAT(Run(spec), IsOk());
  spec.mutable_from_model()->set_model("toy");
  options_.model = "second";
  const auto state = StartState(options_, spec);
  ASSERT_THAT(state, IsOk());
  EXPECT_EQ(state->parameters_size(), ParameterCount(MakeLayout(spec.model())));
  spec.mutable_model()->mutable_lattice()->set_extent(0, 6);
  EXPECT_THAT(StartState(options_, spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("from_model: the weights of toy")));
}

INSTANTIATE_TEST_SUITE_P(Dense, TrainStart, testing::ValuesIn([] {
                           std::vector<FlowCase> flows = FlowCases();
                           std::erase_if(flows, [](const FlowCase& flow) {
                             return flow.name != "additive";
                           });
                           return flows;
                         }()));

}  // namespace
}  // namespace latticed
