// The ensembles and flows that studies speak of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "latticed/v1/spec.pb.h"

namespace latticed {

// phi^4 on L x L with m^2 = -4 and xi = L / 4 (2110.02673 and 1904.12072; L =
// 128 extrapolated). L = 4 has lambda = 8, on no such line: for quick trials.
bool HasEnsemble(int64_t l);
double EnsembleLambda(int64_t l);  // requires HasEnsemble
std::vector<int64_t> EnsembleLattices();

// Table 1 of 2110.02673, as printed.
struct PublishedRow {
  double lambda;  // at L = 20 and 32 not the coupling of the other columns
  double chi_2, m_p_l, ess, acceptance;
};
std::optional<PublishedRow> PublishedTable1(int64_t l);

enum class FlowKind {
  kGated,      // ours: core/flow/equivariant_field.h
  kPublished,  // core/flow/position_space_field.h with the released sizes
  kRealNvp,    // the baseline of 2110.02673
  kAffine,     // odd dense affine couplings of 2105.12481
  kSpline,     // affine and spline couplings after 2112.15532
  // The ablation: as published but smaller, so that a seed trains in minutes,
  // and the same without D4, without phi -> -phi, and without both.
  kFull,
  kWithoutD4,
  kWithoutZ2,
  kWithoutBoth,
};
std::string FlowName(FlowKind kind);  // "gated", "published", ...
bool IsAblation(FlowKind kind);

// The name its flow is published under, e.g. "phi4-l12", "realnvp-l8",
// "ablation-full-l6-1". Only the ablation has more than one seed.
std::string StudyModel(FlowKind kind, int64_t l, int seed = 1);

// The training of trainer/specs on the ensemble of L. The number of steps is
// what the file has: a study scales it to its budget.
v1::TrainingSpec StudySpec(FlowKind kind, int64_t l);

}  // namespace latticed
