#include "trainer/study/ensembles.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "trainer/study/specs.h"

namespace latticed {
namespace {

const std::map<int64_t, double>& Lambdas() {
  static const auto* const kLambdas = new std::map<int64_t, double>{
      {4, 8.0},    {6, 6.975},  {8, 6.008},  {10, 5.550}, {12, 5.276},
      {14, 5.113}, {20, 4.807}, {32, 4.572}, {64, 4.398}, {128, 4.315}};
  return *kLambdas;
}

v1::TrainingSpec Parse(const std::string& name) {
  v1::TrainingSpec spec;
  if (!google::protobuf::TextFormat::ParseFromString(EmbeddedSpec(name),
                                                     &spec)) {
    std::fprintf(stderr, "trainer/specs/%s.textproto does not parse\n",
                 name.c_str());
    std::abort();
  }
  return spec;
}

void SetEnsemble(int64_t l, v1::ModelSpec* model) {
  auto* phi4 = model->mutable_action()->mutable_phi4()->mutable_latticed();
  phi4->set_mass_squared(-4);
  phi4->set_lambda(EnsembleLambda(l));
  model->mutable_lattice()->clear_extent();
  for (int axis = 0; axis < 2; ++axis) {
    model->mutable_lattice()->add_extent(static_cast<uint32_t>(l));
  }
}

v1::TrainingSpec GatedSpec(int64_t l) {
  const std::string own = absl::StrCat("phi4-l", l);
  if (HasEmbeddedSpec(own)) return Parse(own);
  // The recipe of the next smaller lattice.
  int64_t like = 6;
  for (const auto& [other, lambda] : Lambdas()) {
    if (other <= l && HasEmbeddedSpec(absl::StrCat("phi4-l", other))) {
      like = std::max(like, other);
    }
  }
  v1::TrainingSpec spec = Parse(absl::StrCat("phi4-l", like));
  SetEnsemble(l, spec.mutable_model());
  spec.mutable_from_free_field()->set_mass(4.0 / static_cast<double>(l));
  return spec;
}

v1::TrainingSpec AblationSpec(FlowKind kind) {
  v1::TrainingSpec spec = Parse("ablation-l6");
  auto& flow = *spec.mutable_model()->mutable_flow()->mutable_position_space();
  const bool both = kind == FlowKind::kWithoutBoth;
  flow.set_without_point_group(both || kind == FlowKind::kWithoutD4);
  flow.set_without_z2(both || kind == FlowKind::kWithoutZ2);
  return spec;
}

}  // namespace

bool HasEnsemble(int64_t l) { return Lambdas().contains(l); }
double EnsembleLambda(int64_t l) { return Lambdas().at(l); }

std::vector<int64_t> EnsembleLattices() {
  std::vector<int64_t> lattices;
  for (const auto& [l, lambda] : Lambdas()) lattices.push_back(l);
  return lattices;
}

std::optional<PublishedRow> PublishedTable1(int64_t l) {
  static const auto* const kRows = new std::map<int64_t, PublishedRow>{
      {6, {6.975, 1.06, 3.98, 0.99, 0.96}},
      {12, {5.276, 4.12, 3.99, 0.97, 0.91}},
      {20, {5.113, 10.57, 4.05, 0.90, 0.82}},
      {32, {4.750, 25.34, 4.05, 0.66, 0.66}}};
  const auto row = kRows->find(l);
  if (row == kRows->end()) return std::nullopt;
  return row->second;
}

std::string FlowName(FlowKind kind) {
  switch (kind) {
    case FlowKind::kGated:
      return "gated";
    case FlowKind::kPublished:
      return "published";
    case FlowKind::kRealNvp:
      return "realnvp";
    case FlowKind::kAffine:
      return "affine";
    case FlowKind::kSpline:
      return "spline";
    case FlowKind::kFull:
      return "full";
    case FlowKind::kWithoutD4:
      return "without-d4";
    case FlowKind::kWithoutZ2:
      return "without-z2";
    case FlowKind::kWithoutBoth:
      return "without-both";
  }
  std::abort();
}

bool IsAblation(FlowKind kind) {
  return kind == FlowKind::kFull || kind == FlowKind::kWithoutD4 ||
         kind == FlowKind::kWithoutZ2 || kind == FlowKind::kWithoutBoth;
}

std::string StudyModel(FlowKind kind, int64_t l, int seed) {
  if (IsAblation(kind)) {
    return absl::StrCat("ablation-", FlowName(kind), "-l", l, "-", seed);
  }
  return absl::StrCat(kind == FlowKind::kGated ? "phi4" : FlowName(kind), "-l",
                      l);
}

v1::TrainingSpec StudySpec(FlowKind kind, int64_t l) {
  v1::TrainingSpec spec;
  switch (kind) {
    case FlowKind::kGated:
      return GatedSpec(l);
    case FlowKind::kPublished:
      spec = Parse("published-l6");
      break;
    case FlowKind::kRealNvp:
      spec = Parse("realnvp-l8");
      break;
    case FlowKind::kAffine:
    case FlowKind::kSpline: {
      constexpr uint32_t kSites = 36;  // of these files' lattices
      spec = Parse(FlowName(kind) + "-l6");
      // One hidden layer of V numbers or a multiple, as there.
      for (auto& layers : *spec.mutable_model()
                               ->mutable_flow()
                               ->mutable_coupling()
                               ->mutable_layers()) {
        auto* net = layers.mutable_net();
        net->set_hidden(0,
                        net->hidden(0) / kSites * static_cast<uint32_t>(l * l));
      }
      if (auto* base = spec.mutable_model()->mutable_base();
          base->has_free_field()) {
        base->mutable_free_field()->set_mass(4.0 / static_cast<double>(l));
      }
      break;
    }
    case FlowKind::kFull:
    case FlowKind::kWithoutD4:
    case FlowKind::kWithoutZ2:
    case FlowKind::kWithoutBoth:
      spec = AblationSpec(kind);
      break;
  }
  SetEnsemble(l, spec.mutable_model());
  return spec;
}

}  // namespace latticed
