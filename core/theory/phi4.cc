#include "core/theory/phi4.h"

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace latticed {
namespace {

// Partial sums, one a column modulo kLanes: the order of summation is fixed,
// yet the compiler may use vectors.
constexpr int64_t kLanes = 8;
using Lanes = std::array<double, kLanes>;

void RequireSites(const Lattice& lattice, size_t size) {
  if (size == static_cast<size_t>(lattice.Sites())) return;
  std::fprintf(stderr, "a field on %s has %lld values, not %zu\n",
               lattice.Name().c_str(), static_cast<long long>(lattice.Sites()),
               size);
  std::abort();
}

// Sites and forward links of a whole lattice, row by row; the last column is
// apart because its right neighbour is the first.
template <typename T>
double Sum(const Lattice& lattice, const Phi4Couplings& couplings,
           const T* phi) {
  const double m2 = couplings.mass_squared;
  const double lambda = couplings.lambda;
  const auto site = [m2, lambda](double here, double right, double down) {
    const double d0 = down - here;
    const double d1 = right - here;
    const double p2 = here * here;
    return d0 * d0 + d1 * d1 + p2 * (m2 + lambda * p2);
  };
  const int64_t l0 = lattice.l0;
  const int64_t l1 = lattice.l1;
  Lanes lanes = {};
  double tail = 0;
  for (int64_t x0 = 0; x0 < l0; ++x0) {
    const T* row = phi + x0 * l1;
    const T* next = phi + (x0 + 1 < l0 ? x0 + 1 : 0) * l1;
    int64_t x1 = 0;
    for (; x1 + kLanes < l1; x1 += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) {
        lanes[j] += site(row[x1 + j], row[x1 + j + 1], next[x1 + j]);
      }
    }
    for (; x1 + 1 < l1; ++x1) tail += site(row[x1], row[x1 + 1], next[x1]);
    tail += site(row[l1 - 1], row[0], next[l1 - 1]);
  }
  for (const double lane : lanes) tail += lane;
  return tail;
}

}  // namespace

Phi4Couplings Phi4Couplings::FromBosetti(double beta, double lambda) {
  return {.mass_squared = 2 * (1 - 2 * lambda) / beta - 4,
          .lambda = 4 * lambda / (beta * beta),
          .field_scale_squared = 2 / beta};
}

Phi4Couplings Phi4Couplings::FromHopping(double kappa, double lambda) {
  return FromBosetti(2 * kappa, lambda);
}

Phi4Couplings Phi4Couplings::FromContinuum(double mass_squared, double g) {
  return {
      .mass_squared = mass_squared, .lambda = g / 6, .field_scale_squared = 2};
}

Phi4Couplings Phi4Couplings::FromNormflow(double kappa, double mass_squared,
                                          double lambda) {
  return {.mass_squared = mass_squared / kappa,
          .lambda = 4 * lambda / (kappa * kappa),
          .field_scale_squared = 2 / kappa};
}

Phi4Couplings Phi4Couplings::FromSchaich(double mu_squared, double lambda) {
  return {
      .mass_squared = mu_squared, .lambda = lambda, .field_scale_squared = 2};
}

Phi4::Phi4(Lattice lattice, Phi4Couplings couplings)
    : lattice_(lattice), couplings_(couplings) {}

double Phi4::Evaluate(absl::Span<const double> phi) const {
  RequireSites(lattice_, phi.size());
  return Sum(lattice_, couplings_, phi.data());
}

double Phi4::Evaluate(absl::Span<const float> phi) const {
  RequireSites(lattice_, phi.size());
  return Sum(lattice_, couplings_, phi.data());
}

void Phi4::Gradient(absl::Span<const double> phi,
                    absl::Span<double> gradient) const {
  RequireSites(lattice_, phi.size());
  RequireSites(lattice_, gradient.size());
  // Each site is the far end of two forward links and the near end of two:
  // dS/dphi_x = 2 (4 phi_x - sum of neighbours) + 2 m^2 phi_x
  //             + 4 lambda phi_x^3; at L = 2 a neighbour counts twice.
  const double quadratic = 8 + 2 * couplings_.mass_squared;
  const double quartic = 4 * couplings_.lambda;
  const auto site = [quadratic, quartic](double here, double neighbours) {
    return here * (quadratic + quartic * here * here) - 2 * neighbours;
  };
  const int64_t l0 = lattice_.l0;
  const int64_t l1 = lattice_.l1;
  for (int64_t x0 = 0; x0 < l0; ++x0) {
    const double* row = &phi[x0 * l1];
    const double* up = &phi[(x0 > 0 ? x0 - 1 : l0 - 1) * l1];
    const double* down = &phi[(x0 + 1 < l0 ? x0 + 1 : 0) * l1];
    double* out = &gradient[x0 * l1];
    const int64_t last = l1 - 1;
    out[0] = site(row[0], up[0] + down[0] + row[last] + row[l1 > 1 ? 1 : 0]);
    for (int64_t x1 = 1; x1 < last; ++x1) {
      out[x1] = site(row[x1], up[x1] + down[x1] + row[x1 - 1] + row[x1 + 1]);
    }
    if (last > 0) {
      out[last] =
          site(row[last], up[last] + down[last] + row[last - 1] + row[0]);
    }
  }
}

std::string Phi4::Name() const {
  return absl::StrCat("phi4 m2=", couplings_.mass_squared,
                      " lambda=", couplings_.lambda, " on ", lattice_.Name());
}

}  // namespace latticed
