#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <numbers>

#include "core/stats/observables.h"

namespace latticed {
namespace {

// Sums over the sites, and over the slices orthogonal to each axis.
struct SliceSums {
  std::vector<double> rows;     // [L_0], sum over x_1
  std::vector<double> columns;  // [L_1], sum over x_0
  double total = 0;
  double squares = 0;
  double links = 0;
};

SliceSums Sum(absl::Span<const float> phi, int64_t l0, int64_t l1) {
  SliceSums sums;
  sums.rows.assign(l0, 0.0);
  sums.columns.assign(l1, 0.0);
  for (int64_t x0 = 0; x0 < l0; ++x0) {
    const float* row = &phi[x0 * l1];
    const float* next = &phi[(x0 + 1 < l0 ? x0 + 1 : 0) * l1];
    double sum = 0;
    double squares = 0;
    double links = 0;
    for (int64_t x1 = 0; x1 < l1; ++x1) {
      const double here = row[x1];
      const double right = row[x1 + 1 < l1 ? x1 + 1 : 0];
      sum += here;
      squares += here * here;
      links += here * (right + next[x1]);
      sums.columns[x1] += here;
    }
    sums.rows[x0] = sum;
    sums.total += sum;
    sums.squares += squares;
    sums.links += links;
  }
  return sums;
}

// Adds share * sum_y s_y s_{y+t}.
void AddCorrelation(const std::vector<double>& s, double share,
                    std::vector<double>* gt) {
  const size_t l = s.size();
  for (size_t t = 0; t <= l / 2; ++t) {
    double sum = 0;
    for (size_t y = 0; y + t < l; ++y) sum += s[y] * s[y + t];
    for (size_t y = l - t; y < l; ++y) sum += s[y] * s[y + t - l];
    (*gt)[t] += share * sum;
    if (t > 0 && 2 * t != l) (*gt)[l - t] += share * sum;
  }
}

// |sum_y exp(-2 pi i y / L) s_y|^2
double LowestMode(const std::vector<double>& s) {
  double re = 0;
  double im = 0;
  for (size_t y = 0; y < s.size(); ++y) {
    const double angle =
        2 * std::numbers::pi * static_cast<double>(y) / s.size();
    re += std::cos(angle) * s[y];
    im += std::sin(angle) * s[y];
  }
  return re * re + im * im;
}

}  // namespace

Measurement Measure(absl::Span<const float> phi, int64_t l0, int64_t l1,
                    double action) {
  if (phi.size() != static_cast<size_t>(l0 * l1)) {
    std::fprintf(stderr, "a field on %lldx%lld has not %zu values\n",
                 static_cast<long long>(l0), static_cast<long long>(l1),
                 phi.size());
    std::abort();
  }
  const SliceSums sums = Sum(phi, l0, l1);
  const double volume = static_cast<double>(l0 * l1);
  Measurement measurement;
  measurement.m = sums.total / volume;
  measurement.phi2 = sums.squares / volume;
  measurement.link = sums.links / (2 * volume);
  measurement.action = action / volume;
  measurement.gt.assign(l1, 0.0);
  const double share = l0 == l1 ? 0.5 : 1.0;
  measurement.f_min = share * LowestMode(sums.columns) / volume;
  AddCorrelation(sums.columns, share / (volume * l0), &measurement.gt);
  if (l0 == l1) {
    measurement.f_min += share * LowestMode(sums.rows) / volume;
    AddCorrelation(sums.rows, share / (volume * l1), &measurement.gt);
  }
  return measurement;
}

}  // namespace latticed
