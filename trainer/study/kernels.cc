// fig3 and fig4: how kernels depend on time and on lattice orbits, and what the
// gated flow has learned (2110.02673 figs. 3 and 4).
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

std::vector<Piece> OnePerLattice(const std::vector<int64_t>& lattices,
                                 absl::StatusOr<Rows> (*run)(const StudyRun&,
                                                             int64_t)) {
  std::vector<Piece> pieces;
  pieces.reserve(lattices.size());
  for (const int64_t l : lattices) {
    pieces.push_back({absl::StrCat("l", l),
                      [=](const StudyRun& study) { return run(study, l); }});
  }
  return pieces;
}

absl::StatusOr<Rows> TimeAndOrbits(const StudyRun&, int64_t l) {
  const EquivariantShape shape =
      MakeShape(StudySpec(FlowKind::kGated, l).model());
  Rows rows;
  constexpr int64_t kTimes = 129;
  const double intervals = static_cast<double>(shape.nodes - 1);
  for (int64_t node = 0; node < shape.nodes; ++node) {
    for (int64_t i = 0; i < kTimes; ++i) {
      const double t = static_cast<double>(i) / (kTimes - 1);
      const double distance =
          std::abs(t * intervals - static_cast<double>(node));
      rows["time_kernel"].push_back(
          Row()
              .Set("L", static_cast<double>(l))
              .Set("node", static_cast<double>(node))
              .Set("t", t)
              .Set("weight", std::max(0.0, 1 - distance)));
    }
  }
  // Displacements fall into the same orbits as momenta.
  const MomentumOrbits orbits(shape.lattice);
  for (int64_t x = 0; x < l * l; ++x) {
    const int64_t x0 = x / l, x1 = x % l;
    const int64_t r0 = std::min(x0, l - x0), r1 = std::min(x1, l - x1);
    rows["orbits"].push_back(
        Row()
            .Set("L", static_cast<double>(l))
            .Set("r_0", static_cast<double>(x0))
            .Set("r_1", static_cast<double>(x1))
            .Set("orbit", orbits.of_momentum[x])
            .Set("size", orbits.size[orbits.of_momentum[x]])
            .Set("distance",
                 std::hypot(static_cast<double>(r0), static_cast<double>(r1))));
  }
  return rows;
}

// K(r) = (1/V) sum_k Khat(k) cos(2 pi k_0 r_0 / L) cos(2 pi k_1 r_1 / L): Khat
// is even in each component.
double PositionSpace(const MomentumOrbits& orbits,
                     const std::vector<double>& cosine, const float* khat,
                     int64_t l, int64_t r0, int64_t r1) {
  double sum = 0;
  for (int64_t k0 = 0; k0 < l; ++k0) {
    double row = 0;
    for (int64_t k1 = 0; k1 < l; ++k1) {
      row += khat[orbits.of_momentum[k0 * l + k1]] * cosine[k1 * r1 % l];
    }
    sum += row * cosine[k0 * r0 % l];
  }
  return sum / static_cast<double>(l * l);
}

absl::StatusOr<Rows> Kernels(const StudyRun& run, int64_t l) {
  const auto flow = FlowOf(run, FlowKind::kGated, l);
  if (!flow.ok()) return flow.status();
  const v1::ModelSpec& spec = flow->checkpoint.manifest.spec();
  const auto parameters =
      WeightsToParameters(MakeLayout(spec), flow->checkpoint.weights);
  if (!parameters.ok()) return parameters.status();
  const EquivariantShape shape = MakeShape(spec);
  const MomentumOrbits orbits(shape.lattice);
  std::vector<double> cosine;  // of 2 pi i / L
  for (int64_t i = 0; i < l; ++i) {
    cosine.push_back(
        std::cos(2 * M_PI * static_cast<double>(i) / static_cast<double>(l)));
  }
  Rows rows;
  const auto add_frequency = [&](const char* kind, int64_t index,
                                 double value) {
    rows["frequencies"].push_back(Row()
                                      .Set("L", static_cast<double>(l))
                                      .Set("kind", kind)
                                      .Set("index", static_cast<double>(index))
                                      .Set("frequency", value));
  };
  for (int64_t f = 0; f < shape.sines; ++f) {
    add_frequency("omega", f + 1, (*parameters)[shape.OmegaOffset() + f]);
  }
  for (int64_t g = 0; g + 1 < shape.gates; ++g) {
    add_frequency("alpha", g + 1, (*parameters)[shape.AlphaOffset() + g]);
  }
  for (int64_t j = 0; j < shape.nodes; ++j) {
    if (run.stop->load()) return absl::CancelledError("stopped");
    for (int64_t g = 0; g < shape.gates; ++g) {
      for (int64_t f = 0; f < shape.Features(); ++f) {
        const float* khat =
            &(*parameters)[((j * shape.gates + g) * shape.Features() + f) *
                           shape.orbits];
        for (int64_t o = 0; o < shape.orbits; ++o) {
          const auto [a, b] = orbits.representative[o];
          const auto start = [&] {
            return Row()
                .Set("L", static_cast<double>(l))
                .Set("t", static_cast<double>(j) /
                              static_cast<double>(shape.nodes - 1))
                .Set("gate", static_cast<double>(g))
                .Set("feature", static_cast<double>(f));
          };
          rows["momentum"].push_back(
              start()
                  .Set("k_0", a)
                  .Set("k_1", b)
                  .Set("khat_squared", KhatSquared(shape.lattice, a, b))
                  .Set("kernel", khat[o]));
          rows["position"].push_back(
              start()
                  .Set("r_0", a)
                  .Set("r_1", b)
                  .Set("distance", std::hypot(a, b))
                  .Set("kernel", PositionSpace(orbits, cosine, khat, l, a, b)));
        }
      }
    }
  }
  return rows;
}

std::vector<Column> KernelColumns(const std::vector<Column>& where,
                                  const std::string& kernel) {
  std::vector<Column> columns = {
      {"L", "extent of the lattice"},
      {"t", "flow time of the node"},
      {"gate", "g: 0 is 1, else cos(alpha_g phi)"},
      {"feature", "f: 0 is phi, else sin(omega_f phi)"}};
  columns.insert(columns.end(), where.begin(), where.end());
  columns.push_back({"kernel", kernel});
  return columns;
}

}  // namespace

Study TimeKernelStudy() {
  Study study;
  study.name = "fig3";
  study.about = "interpolation of kernels in time, and lattice orbits";
  study.lattices = {6, 12};
  study.tables = {{"time_kernel",
                   "weight of each time node, piecewise linear",
                   {{"L", ""},
                    {"node", ""},
                    {"t", "flow time"},
                    {"weight", "of the node at t"}}},
                  {"orbits",
                   "displacements that D4 makes equal",
                   {{"L", ""},
                    {"r_0", ""},
                    {"r_1", ""},
                    {"orbit", "number; 0 is r = 0"},
                    {"size", "displacements in it"},
                    {"distance", "shortest around the lattice"}}}};
  study.pieces = [](const std::vector<int64_t>& lattices) {
    return OnePerLattice(lattices, TimeAndOrbits);
  };
  return study;
}

Study KernelStudy() {
  Study study;
  study.name = "fig4";
  study.about = "the learned kernels against distance, momentum and time";
  study.lattices = {12};
  study.tables = {{"momentum", "eigenvalues of the kernels, one for each orbit",
                   KernelColumns({{"k_0", "in 2 pi / L"},
                                  {"k_1", ""},
                                  {"khat_squared", "sum_mu 4 sin^2(k_mu / 2)"}},
                                 "Khat_gf(k; t)")},
                  {"position", "kernels, one displacement for each orbit",
                   KernelColumns({{"r_0", ""}, {"r_1", ""}, {"distance", ""}},
                                 "K_gf(r; t)")},
                  {"frequencies",
                   "of sine features and gates",
                   {{"L", ""},
                    {"kind", "omega or alpha"},
                    {"index", "f or g"},
                    {"frequency", ""}}}};
  study.pieces = [](const std::vector<int64_t>& lattices) {
    return OnePerLattice(lattices, Kernels);
  };
  return study;
}

}  // namespace latticed
