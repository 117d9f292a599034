// Every bundled flow against the Monte Carlo reference of its ensemble
// (tests/golden/phi4_reference.json) and against its own manifest.
//
// Short form: 2^20 / V draws, 1024 to 16384; long form 65 536.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "core/factory.h"
#include "core/kernels/parallel.h"
#include "core/stats/observables.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "tests/support/device.h"
#include "tests/support/schwinger_dyson.h"
#include "tests/support/statistics.h"
#include "tests/support/status_matchers.h"

namespace latticed {
namespace {

const std::string kModels = std::string(LATTICED_SOURCE_DIR) + "/models";

std::map<std::string, Estimate> ReferenceObservables(int64_t length,
                                                     double lambda) {
  std::ifstream file(std::string(LATTICED_SOURCE_DIR) +
                     "/tests/golden/phi4_reference.json");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  google::protobuf::Struct json;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text, &json).ok());
  std::map<std::string, Estimate> observables;
  for (const auto& value :
       json.fields().at("ensembles").list_value().values()) {
    const auto& ensemble = value.struct_value().fields();
    if (ensemble.at("L").number_value() != static_cast<double>(length) ||
        std::abs(ensemble.at("lambda").number_value() - lambda) > 1e-9) {
      continue;
    }
    for (const auto& [name, estimate] :
         ensemble.at("observables").struct_value().fields()) {
      const auto& fields = estimate.struct_value().fields();
      observables[name] = {fields.at("value").number_value(),
                           fields.at("error").number_value()};
    }
  }
  return observables;
}

class BundledFlowTest : public testing::TestWithParam<std::string> {};

TEST_P(BundledFlowTest, AgreesWithMonteCarloAndItsManifest) {
  SetComputeThreads(0);
  const auto versions = ListVersions(kModels, GetParam());
  ASSERT_THAT(versions, IsOk());
  ASSERT_FALSE(versions->empty());
  const auto checkpoint = ReadVersion(kModels, GetParam(), versions->back());
  ASSERT_THAT(checkpoint, IsOk());
  const v1::Manifest& manifest = checkpoint->manifest;
  auto sampler = MakeSampler(manifest.spec(), checkpoint->weights,
                             TestOptions(TestKernel()));
  ASSERT_THAT(sampler, IsOk());
  const auto action =
      MakeAction(manifest.spec().action(), manifest.spec().lattice());
  ASSERT_THAT(action, IsOk());

  const Lattice lattice = (*sampler)->lattice();
  const int64_t sites = lattice.Sites(), tile = (*sampler)->tile();
  const int64_t draws =
      std::getenv("LATTICED_LONG_TESTS") != nullptr
          ? 65536
          : std::clamp<int64_t>((1 << 20) / sites, 1024, 16384);
  std::vector<float> phi(tile * sites);
  std::vector<double> log_q(tile), s(tile), log_w, diagonal, neighbour;
  std::vector<Measurement> measurements;
  for (int64_t first = 0; first < draws; first += tile) {
    std::vector<DrawId> ids;
    for (int64_t i = first; i < std::min(draws, first + tile); ++i) {
      ids.push_back(
          {NamedStream("bundled flow test"), static_cast<uint64_t>(i)});
    }
    (*sampler)->Draw(
        ids, {absl::MakeSpan(phi), absl::MakeSpan(log_q), absl::MakeSpan(s)});
    for (size_t i = 0; i < ids.size(); ++i) {
      const absl::Span<const float> field(phi.data() + i * sites, sites);
      log_w.push_back(-s[i] - log_q[i]);
      measurements.push_back(Measure(field, lattice.l0, lattice.l1, s[i]));
      const std::vector<double> identity =
          SchwingerDyson(**action, {field.begin(), field.end()});
      diagonal.push_back(identity[0]);
      neighbour.push_back(identity[1]);
    }
  }

  const auto reference = ReferenceObservables(
      lattice.l0, manifest.spec().action().phi4().latticed().lambda());
  const auto measured =
      EstimateIndependent(measurements, log_w, lattice.l0, lattice.l1);
  for (const char* name : {"chi_2", "m_p_L", "xi_2nd", "abs_M", "binder_U",
                           "phi2", "link_energy", "action_per_site"}) {
    ASSERT_TRUE(reference.contains(name)) << name;
    EXPECT_THAT(measured.at(name).value,
                IsWithinErrors(reference.at(name).value,
                               CombinedError(measured.at(name).error,
                                             reference.at(name).error),
                               4.0))
        << name;
  }

  // The manifest's ESS is of other draws; both have errors.
  const Estimate ess = Ess(log_w);
  EXPECT_THAT(
      ess.value,
      IsWithinErrors(manifest.quality().ess(),
                     CombinedError(ess.error, manifest.quality().ess_error())));
  EXPECT_LT(manifest.quality().step_doubling_rms(), 0.05);

  // <phi_x dS/dphi_y> = delta_xy of the reweighted flow; independent draws of
  // almost equal weight, so the error is the standard deviation / sqrt(n ESS).
  for (const auto& [values, expected] :
       {std::pair{&diagonal, 1.0}, std::pair{&neighbour, 0.0}}) {
    double sum = 0, squares = 0, weights = 0;
    const double largest = *std::max_element(log_w.begin(), log_w.end());
    for (size_t i = 0; i < values->size(); ++i) {
      const double w = std::exp(log_w[i] - largest);
      sum += w * (*values)[i];
      squares += w * (*values)[i] * (*values)[i];
      weights += w;
    }
    const double mean = sum / weights;
    const double error =
        std::sqrt((squares / weights - mean * mean) /
                  (static_cast<double>(values->size()) * ess.value));
    EXPECT_THAT(mean, IsWithinErrors(expected, error));
  }
  SetComputeThreads(1);
}

INSTANTIATE_TEST_SUITE_P(Models, BundledFlowTest,
                         testing::Values("phi4-l6", "phi4-l8", "phi4-l12",
                                         "phi4-l20", "phi4-l32"),
                         [](const auto& info) {
                           return info.param.substr(info.param.find('-') + 1);
                         });

}  // namespace
}  // namespace latticed
