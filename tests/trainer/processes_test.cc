// Several processes of a training, as threads with a group each: sums, losses,
// what they must agree on, and the loss of one.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <thread>

#include "core/factory.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/trainer/small_training.h"
#include "trainer/agreement.h"
#include "trainer/evaluate.h"
#include "trainer/heartbeats.h"
#include "trainer/process_group.h"
#include "trainer/shared_step.h"
#include "trainer/train.h"

namespace latticed {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

v1::TrainingSpec Spec() {
  v1::TrainingSpec spec = SmallTraining();
  spec.clear_phase();
  spec.add_phase()->set_steps(12);
  spec.mutable_phase(0)->set_batch(80);
  spec.set_checkpoint_every_steps(5);
  spec.set_evaluation_draws(2000);
  return spec;
}

// Below those that the system gives to clients and to tests beside this one.
int FreePort() {
  static int next = getpid() * 61 % 10000;
  while (true) {
    next = (next + 1) % 10000;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(20000 + next));
    const bool is_free =
        bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    close(fd);
    if (is_free) return 20000 + next;
  }
}

// body(group) in each of `size` threads.
void Together(int size, const std::function<void(ProcessGroup*)>& body) {
  const int port = FreePort();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&body, port, rank, size] {
      ProcessPlace place;
      place.rank = rank;
      place.size = size;
      place.host = "127.0.0.1";
      place.port = port;
      place.attempt = "0";
      place.one_machine = true;
      const auto group = ProcessGroup::Join(place, {});
      ASSERT_THAT(group, IsOk());
      body(group->get());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ShareOf, SplitsABatchInGroupsOfSixteen) {
  for (const int64_t batch : {16, 32, 80, 1024, 65536}) {
    for (const int size : {1, 2, 3, 4, 7, 64}) {
      int64_t next = 0, least = batch, most = 0;
      for (int rank = 0; rank < size; ++rank) {
        const DrawShare share = ShareOf(batch, rank, size);
        EXPECT_EQ(share.first, next);
        EXPECT_EQ(share.count % 16, 0);
        next += share.count;
        least = std::min(least, share.count);
        most = std::max(most, share.count);
      }
      EXPECT_EQ(next, batch);
      EXPECT_LE(most - least, 16);
    }
  }
}

TEST(ProcessGroup, AloneChangesNothing) {
  const auto group = ProcessGroup::Alone();
  std::vector<double> values = {1, 2};
  std::string bytes = "mine";
  EXPECT_THAT(group->SumUp(absl::MakeSpan(values)), IsOk());
  EXPECT_THAT(group->Share(&bytes), IsOk());
  EXPECT_THAT(values, ElementsAre(1, 2));
  EXPECT_EQ(bytes, "mine");
}

TEST(ProcessGroup, SumsAndShares) {
  Together(3, [](ProcessGroup* group) {
    std::vector<double> values(1000, group->rank() + 1.0);
    values[7] = group->rank() == 1 ? std::nan("") : 0;
    values[8] =
        group->rank() == 2 ? -std::numeric_limits<double>::infinity() : 0;
    ASSERT_THAT(group->SumUp(absl::MakeSpan(values)), IsOk());
    EXPECT_EQ(values[0], 6);
    EXPECT_EQ(values[999], 6);
    EXPECT_TRUE(std::isnan(values[7]));
    EXPECT_EQ(values[8], -std::numeric_limits<double>::infinity());
    for (const std::string& text : {std::string(100000, 'x'), std::string()}) {
      std::string bytes = group->first() ? text : "other";
      ASSERT_THAT(group->Share(&bytes), IsOk());
      EXPECT_EQ(bytes, text);
    }
    EXPECT_EQ(group->bytes_exchanged(), 8000 + 100000);
  });
}

TEST(Agreement, AllGetTheFirstProcessesOutcome) {
  Together(2, [](ProcessGroup* group) {
    EXPECT_THAT(OnFirst(group, [] { return absl::OkStatus(); }), IsOk());
    const auto failed =
        OnFirst(group, [] { return absl::DataLossError("damaged"); });
    EXPECT_THAT(failed,
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged")));
  });
}

TEST(Agreement, NamesTheProcessThatDiffers) {
  Together(3, [](ProcessGroup* group) {
    EXPECT_THAT(ExpectAlike(group, {{"a", "1"}, {"b", "2"}}), IsOk());
    const std::string own = group->rank() == 2 ? "other" : "same";
    EXPECT_THAT(ExpectAlike(group, {{"build", "x"}, {"spec", own}}),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("process 2 has another spec")));
  });
}

TEST(Heartbeats, FindsWhoIsSilent) {
  struct Counts {
    std::mutex mutex;
    std::vector<int64_t> sums = std::vector<int64_t>(3);
  };
  const auto counts = std::make_shared<Counts>();
  const auto count = [counts](int rank, int64_t add) {
    const std::lock_guard<std::mutex> lock(counts->mutex);
    return counts->sums[rank] += add;
  };
  const std::chrono::milliseconds window(2000);
  Heartbeats first(0, 3, window, count);
  Heartbeats second(1, 3, window, count);
  const auto silent = first.Silent();
  ASSERT_THAT(silent, IsOk());
  EXPECT_THAT(*silent, ElementsAre(2));
}

TEST(Heartbeats, SaysWhenNobodyAnswers) {
  Heartbeats beats(0, 2, std::chrono::milliseconds(100),
                   [](int, int64_t) -> int64_t {
                     throw std::runtime_error("connection lost");
                   });
  EXPECT_THAT(beats.Silent(), StatusIs(absl::StatusCode::kUnavailable,
                                       HasSubstr("connection lost")));
}

class Losses final : public Progress {
 public:
  Losses() : Progress(/*quiet=*/true) {}
  void Report(const ProgressReport& report) override {
    reports.push_back(report);
  }
  void Say(const std::string&) override {}
  std::vector<ProgressReport> reports;
};

// The log weights of a step are those of one process to the bit if the
// parameters are, and are summed in float64: the first losses agree to 1e-12.
// A step's float32 parameters differ by at most their rounding, 6e-8 of each,
// and by what the order of the gradients' float32 sums does, 5 groups of lanes
// of 6e-8; Adam's step is of the gradient's size and keeps that relative. So
// parameters differ by 12 x 4e-7 = 5e-6 of themselves at the end, and a loss,
// whose derivatives by their logarithms are of order 1, as much.
TEST(SharedTraining, HasTheLossesOfOneProcess) {
  const v1::TrainingSpec spec = Spec();
  std::vector<ProgressReport> alone;
  std::vector<float> weights;
  for (const int size : {1, 2, 3, 4}) {
    SCOPED_TRACE(size);
    TemporaryDirectory directory;
    TrainOptions options;
    options.repository = directory.path();
    options.model = "toy";
    Losses losses;
    const std::atomic<bool> stop{false};
    const auto train = [&](ProcessGroup* group) {
      auto metrics = TrainerMetrics::Create("", options.model);
      ASSERT_THAT(metrics, IsOk());
      Losses quiet;
      const auto outcome =
          Train(options, spec, group->first() ? &losses : &quiet,
                metrics->get(), stop, group);
      ASSERT_THAT(outcome, IsOk());
      EXPECT_EQ(*outcome, TrainOutcome::kFinished);
    };
    if (size == 1) {
      train(ProcessGroup::Alone().get());
      alone = losses.reports;
    } else {
      Together(size, train);
    }
    ASSERT_EQ(losses.reports.size(), 12u);
    ASSERT_EQ(alone.size(), 12u);
    for (size_t i = 0; i < alone.size(); ++i) {
      const double tolerance = i == 0 ? 1e-12 : 5e-6;
      EXPECT_NEAR(losses.reports[i].loss, alone[i].loss, tolerance) << i;
      EXPECT_NEAR(losses.reports[i].sigma2_per_site, alone[i].sigma2_per_site,
                  tolerance)
          << i;
      EXPECT_NEAR(losses.reports[i].ess, alone[i].ess, tolerance) << i;
    }
    const auto checkpoint = ReadVersion(directory.path(), "toy", 1);
    ASSERT_THAT(checkpoint, IsOk());
    EXPECT_EQ(checkpoint->manifest.training().processes(), size);
    EXPECT_EQ(checkpoint->manifest.training().draws(), 12u * 80);
    const auto parameters =
        WeightsToParameters(MakeLayout(spec.model()), checkpoint->weights);
    ASSERT_THAT(parameters, IsOk());
    if (size == 1) weights = *parameters;
    for (size_t i = 0; i < weights.size(); ++i) {
      EXPECT_NEAR((*parameters)[i], weights[i], 5e-6) << i;
    }
  }
}

TEST(SharedTraining, EvaluatesToTheSameBits) {
  const v1::TrainingSpec spec = Spec();
  const auto start = StartState({}, spec);
  ASSERT_THAT(start, IsOk());
  const Weights weights = ParametersToWeights(
      MakeLayout(spec.model()), absl::MakeConstSpan(start->parameters().data(),
                                                    start->parameters_size()));
  const auto alone = HeldOutLogWeights(spec.model(), weights, 1, 2000, "e");
  ASSERT_THAT(alone, IsOk());
  Together(3, [&](ProcessGroup* group) {
    const auto together =
        HeldOutLogWeights(spec.model(), weights, 1, 2000, "e", group);
    ASSERT_THAT(together, IsOk());
    EXPECT_EQ(*together, *alone);
  });
}

TEST(Window, RefusesProcessesThatHaveDriftedApart) {
  Together(2, [](ProcessGroup* group) {
    Window window;
    window.Add(1.0 + group->rank());
    const auto all = window.OfAll(group, "parameters");
    ASSERT_THAT(all, IsOk());
    EXPECT_EQ(all->draws(), 2u);
    EXPECT_EQ(all->Mean(), 1.5);
    EXPECT_EQ(all->Variance(), 0.5);
    EXPECT_THAT(window.OfAll(group, group->first() ? "these" : "those"),
                StatusIs(absl::StatusCode::kDataLoss,
                         HasSubstr("process 1 has other parameters")));
  });
}

}  // namespace
}  // namespace latticed
