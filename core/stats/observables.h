// Observables of configurations phi [n, L_0, L_1] as plain arrays, and their
// estimates with errors.
//
// Definitions (2110.02673 eqs. 11-14), M = (1/V) sum_x phi_x:
//   chi_2     V <M^2>                 (no subtraction: <M> = 0)
//   abs_M     <|M|>
//   binder_U  1 - <M^4> / (3 <M^2>^2)
//   Gt(t)     (1/L) sum_{r1} G(r1, t), averaged over both axes on a square
//   m_eff(t)  arccosh[(Gt(t-1) + Gt(t+1)) / (2 Gt(t))]
//   m_p_L     L times the mean of m_eff(t) over t = 1..L-1 that are finite
//   xi        L / m_p_L
//   xi_2nd    sqrt(chi_2 / F - 1) / (2 sin(pi/L)), F = V <|phi_k|^2> at the
//             smallest momentum, averaged over axes on a square
//   phi2      <phi^2> per site
//   link_energy  <phi_x phi_{x+mu}> per link
//   action_per_site  <S> / V
// On a rectangle t runs along axis 1 and L = L_1. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "core/stats/log_weights.h"

namespace latticed {

// The names above on a lattice with this L_1, e.g. up to "Gt_4" for 8.
std::vector<std::string> ObservableNames(int64_t l1);

// What one configuration contributes: every estimate is a function of weighted
// means of these.
struct Measurement {
  double m = 0;            // M
  double phi2 = 0;         // mean of phi^2
  double link = 0;         // mean of phi_x phi_{x+mu}
  double f_min = 0;        // F above, phi_k = (1/V) sum_x exp(-ikx) phi_x
  double action = 0;       // S / V
  std::vector<double> gt;  // [L_1], one configuration's Gt(t)
};
// A span of another size than l0 l1 aborts.
Measurement Measure(absl::Span<const float> phi, int64_t l0, int64_t l1,
                    double action);

// Independent, weighted measurements (log_w empty: equal weights): jackknife
// over 64 blocks. Keys as above, "Gt_<t>" for t = 0..L_1/2 and "m_eff_<t>" for
// t = 1..L_1/2; the rest follow from Gt(L-t) = Gt(t). What the data do not
// determine is NaN, its error infinite or NaN. Measurements with a weight that
// is NaN or +inf are left out; if none remain, the map is empty.
std::map<std::string, Estimate> EstimateIndependent(
    absl::Span<const Measurement> measurements, absl::Span<const double> log_w,
    int64_t l0, int64_t l1);

// Measurements of a chain in order: Gamma method (hep-lat/0306017), linear in
// the fluctuations for what is not a plain mean. The same keys.
std::map<std::string, Estimate> EstimateChain(
    absl::Span<const Measurement> measurements, int64_t l0, int64_t l1);

}  // namespace latticed
