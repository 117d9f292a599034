#include "core/stats/block_sums.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/random/stream.h"
#include "gtest/gtest.h"

namespace latticed {
namespace {

constexpr int64_t kL = 4;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Sample {
  double log_w = 0;
  Measurement measurement;
};

// Gaussian fields, log w = noise / 5 + shift.
std::vector<Sample> Samples(int n, double shift = 0) {
  std::vector<Sample> samples;
  const StreamId stream = NamedStream("block sums");
  for (int i = 0; i < n; ++i) {
    std::vector<float> phi(kL * kL + 1);
    Normals(stream, static_cast<uint64_t>(i), Purpose::kBaseDraw,
            absl::MakeSpan(phi));
    const double noise = phi.back();
    phi.pop_back();
    double action = 0;
    for (const float x : phi) action += double{x} * x / 2;
    samples.push_back({noise / 5 + shift, Measure(phi, kL, kL, action)});
  }
  return samples;
}

BlockSums SumsOf(const std::vector<Sample>& samples, size_t first, size_t last,
                 double reference = 0, bool chain = false) {
  BlockSums sums(kL, kL, chain, reference);
  for (size_t i = first; i < last; ++i) {
    sums.Add(samples[i].log_w, &samples[i].measurement);
  }
  return sums;
}

void ExpectSameBits(const BlockSums& a, const BlockSums& b) {
  ASSERT_EQ(a.blocks().size(), b.blocks().size());
  ASSERT_EQ(a.block_size(), b.block_size());
  EXPECT_EQ(a.log_w_reference(), b.log_w_reference());
  const std::vector<BlockSum> left = a.blocks();
  const std::vector<BlockSum> right = b.blocks();
  for (size_t i = 0; i < left.size(); ++i) {
    EXPECT_EQ(left[i].positions, right[i].positions);
    EXPECT_EQ(left[i].sum_w, right[i].sum_w);
    EXPECT_EQ(left[i].sum_w2, right[i].sum_w2);
    EXPECT_EQ(left[i].measured, right[i].measured);
    EXPECT_EQ(left[i].sums, right[i].sums);
  }
}

// Both are jackknives over blocks of draws in order; where blocks begin
// differs, so errors agree to their own uncertainty: 1/sqrt(2 * 64) = 9 %
// each, and strongly correlated.
TEST(BlockSums, AgreeWithTheEstimatorsOverAllDraws) {
  const std::vector<Sample> samples = Samples(5000, 70);
  const BlockSums sums = SumsOf(samples, 0, samples.size(), /*reference=*/70);
  std::vector<double> log_w;
  std::vector<Measurement> measurements;
  for (const Sample& sample : samples) {
    log_w.push_back(sample.log_w);
    measurements.push_back(sample.measurement);
  }
  const auto expected = EstimateIndependent(measurements, log_w, kL, kL);
  const auto estimates = sums.JackknifeObservables();
  ASSERT_EQ(estimates.size(), expected.size());
  for (const char* name : {"chi_2", "abs_M", "phi2", "binder_U", "Gt_0"}) {
    EXPECT_NEAR(estimates.at(name).value, expected.at(name).value, 1e-12);
    EXPECT_NEAR(estimates.at(name).error / expected.at(name).error, 1, 0.3);
  }
  EXPECT_NEAR(sums.LogZ().value, LogZ(log_w).value, 1e-12);
  EXPECT_NEAR(sums.LogZ().error / LogZ(log_w).error, 1, 0.3);
  EXPECT_NEAR(sums.Ess().value, Ess(log_w).value, 1e-12);
}

TEST(BlockSums, KeepBetween64And128Blocks) {
  BlockSums sums(kL, kL, false, 0);
  const std::vector<Sample> samples = Samples(1);
  for (uint64_t n = 1; n <= 3000; ++n) {
    sums.Add(0, &samples[0].measurement);
    EXPECT_LE(sums.blocks().size(), BlockSums::kDrawBlocksMax);
    if (n >= 64) {
      EXPECT_GE(sums.blocks().size(), 64);
    }
    EXPECT_EQ(sums.Total().positions, n);
  }
  EXPECT_EQ(sums.block_size(), 32);
}

TEST(BlockSums, AlignedShardsAppendToTheBitsOfOneRun) {
  const std::vector<Sample> samples = Samples(4096);
  const BlockSums whole = SumsOf(samples, 0, 4096);
  for (const size_t shards : {2, 4, 8}) {
    BlockSums merged(kL, kL, false, 0);
    for (size_t s = 0; s < shards; ++s) {
      merged.Append(
          SumsOf(samples, s * 4096 / shards, (s + 1) * 4096 / shards));
    }
    ExpectSameBits(merged, whole);
  }
}

TEST(BlockSums, AnyShardsAppendToTheSameSumsUpToRounding) {
  const std::vector<Sample> samples = Samples(3001, -40);
  const BlockSums whole = SumsOf(samples, 0, 3001, -40);
  BlockSums merged = SumsOf(samples, 0, 700, -39);
  merged.Append(SumsOf(samples, 700, 702, -41.5));
  merged.Append(SumsOf(samples, 702, 3001, -40));
  EXPECT_EQ(merged.Total().positions, 3001);
  EXPECT_LE(merged.blocks().size(), BlockSums::kDrawBlocksMax);
  EXPECT_NEAR(merged.LogZ().value, whole.LogZ().value, 1e-12);
  EXPECT_NEAR(merged.Ess().value, whole.Ess().value, 1e-12);
  const auto a = merged.JackknifeObservables();
  const auto b = whole.JackknifeObservables();
  for (const auto& [name, estimate] : b) {
    if (std::isnan(estimate.value)) continue;
    EXPECT_NEAR(a.at(name).value, estimate.value,
                1e-11 * (1 + std::abs(estimate.value)))
        << name;
  }
  EXPECT_NEAR(a.at("chi_2").error / b.at("chi_2").error, 1, 0.4);
}

// e^900 of a difference: neither overflows nor loses what counts.
TEST(BlockSums, FarReferencesGiveWay) {
  std::vector<Sample> samples = Samples(100, -900);
  const BlockSums low = SumsOf(samples, 0, 100, 0);
  EXPECT_NEAR(low.LogZ().value, -900, 1);
  EXPECT_GT(low.Ess().value, 0.5);
  for (Sample& sample : samples) sample.log_w += 1800;
  const BlockSums high = SumsOf(samples, 0, 100, 0);
  EXPECT_NEAR(high.LogZ().value, 900, 1);
  BlockSums both = low;
  both.Append(high);
  EXPECT_NEAR(both.LogZ().value, high.LogZ().value - std::log(2), 1e-9);
  EXPECT_NEAR(both.Ess().value, high.Ess().value / 2, 1e-9);
  BlockSums reversed = high;
  reversed.Append(low);
  EXPECT_NEAR(reversed.LogZ().value, both.LogZ().value, 1e-9);
}

TEST(BlockSums, NonFiniteWeightsAreCountedAndLeftOut) {
  const std::vector<Sample> samples = Samples(10);
  BlockSums sums = SumsOf(samples, 0, 10);
  const BlockSums clean = sums;
  sums.Add(std::nan(""), &samples[0].measurement);
  sums.Add(kInfinity, &samples[0].measurement);
  sums.Add(std::nan(""), nullptr);
  EXPECT_EQ(sums.Total().positions, 13);
  EXPECT_EQ(sums.Total().non_finite, 3);
  EXPECT_EQ(sums.LogZ().value, clean.LogZ().value);
  EXPECT_EQ(sums.JackknifeObservables().at("phi2").value,
            clean.JackknifeObservables().at("phi2").value);
  // Weight zero is a weight.
  sums.Add(-kInfinity, &samples[0].measurement);
  EXPECT_NEAR(sums.LogZ().value, clean.LogZ().value - std::log(1.1), 1e-12);
}

TEST(BlockSums, NothingGivesNothing) {
  const BlockSums sums(kL, kL, false, 0);
  EXPECT_EQ(sums.LogZ().value, -kInfinity);
  EXPECT_TRUE(sums.JackknifeObservables().empty());
  EXPECT_TRUE(BlockSums(kL, kL, true, 0).GammaObservables().empty());
}

// A chain that repeats each configuration three times.
std::vector<Sample> Sticky(int n) {
  const std::vector<Sample> moves = Samples(n / 3 + 1);
  std::vector<Sample> samples;
  for (int i = 0; i < n; ++i) samples.push_back(moves[i / 3]);
  return samples;
}

TEST(BlockSums, AShortChainIsEstimateChain) {
  const std::vector<Sample> samples = Sticky(3000);
  std::vector<Measurement> measurements;
  for (const Sample& sample : samples) {
    measurements.push_back(sample.measurement);
  }
  const auto expected = EstimateChain(measurements, kL, kL);
  const auto estimates =
      SumsOf(samples, 0, 3000, 0, /*chain=*/true).GammaObservables();
  for (const auto& [name, estimate] : expected) {
    if (std::isnan(estimate.value)) continue;
    EXPECT_NEAR(estimates.at(name).value, estimate.value,
                1e-9 * (1 + std::abs(estimate.value)));
    EXPECT_NEAR(estimates.at(name).error, estimate.error, 1e-6 * estimate.error)
        << name;
  }
}

// Each value thrice: rho(1) = 2/3, rho(2) = 1/3, so tau_int = 1/2 + 1 = 3/2.
// At 60000 steps blocks are 16 steps. The error of the Gamma method over n/16 =
// 3750 blocks with a window of a few is about sqrt((w + 1/2)/3750) = 3-5 %, so
// that of tau_int 6-10 %.
TEST(BlockSums, ALongChainKeepsItsAutocorrelationInFewBlocks) {
  const BlockSums sums = SumsOf(Sticky(60000), 0, 60000, 0, /*chain=*/true);
  EXPECT_LE(sums.blocks().size(), BlockSums::kChainBlocksMax);
  EXPECT_EQ(sums.block_size(), 16);
  const Estimate chi_2 = sums.GammaObservables().at("chi_2");
  EXPECT_NEAR(sums.TauIntChi2(chi_2), 1.5, 0.4);
  // chi_2 of unit normal sites is 1.
  EXPECT_NEAR(chi_2.value, 1, 5 * chi_2.error);
  // As blocks of a few hundred steps each, which is what shards send.
  BlockSums coarse = sums;
  coarse.Coarsen(BlockSums::kDrawBlocksMax);
  EXPECT_NEAR(coarse.JackknifeObservables().at("chi_2").error / chi_2.error, 1,
              0.4);
}

TEST(BlockSums, RestoreTakesOwnBlocksAndRefusesNonsense) {
  const BlockSums sums = SumsOf(Samples(300), 0, 300);
  BlockSums restored(kL, kL, false, sums.log_w_reference());
  ASSERT_TRUE(restored.Restore(sums.block_size(), sums.blocks()));
  ExpectSameBits(restored, sums);

  const auto refused = [&](auto&& change) {
    std::vector<BlockSum> blocks = sums.blocks();
    uint64_t size = sums.block_size();
    change(&blocks, &size);
    return !BlockSums(kL, kL, false, 0).Restore(size, blocks);
  };
  using Blocks = std::vector<BlockSum>;
  EXPECT_FALSE(refused([](Blocks*, uint64_t*) {}));
  EXPECT_TRUE(refused([](Blocks*, uint64_t* size) { *size = 3; }));
  EXPECT_TRUE(refused([](Blocks*, uint64_t* size) { *size = 0; }));
  EXPECT_TRUE(refused([](Blocks* b, uint64_t*) { (*b)[0].positions = 99; }));
  EXPECT_TRUE(refused([](Blocks* b, uint64_t*) { (*b)[0].sums.pop_back(); }));
  EXPECT_TRUE(refused([](Blocks* b, uint64_t*) { (*b)[0].sum_w = -1; }));
  EXPECT_TRUE(refused([](Blocks* b, uint64_t*) { (*b)[0].sums[0] = NAN; }));
  EXPECT_TRUE(refused([](Blocks* b, uint64_t*) { b->resize(129); }));
}

}  // namespace
}  // namespace latticed
