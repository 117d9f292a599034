// phi^4 theory in two dimensions,
//
//   S[phi] = sum_x [ sum_mu (phi_{x+mu} - phi_x)^2 + m^2 phi_x^2
//                    + lambda phi_x^4 ]                     (no factor 1/2)
//
// (2110.02673 eq. 10, 1904.12072). lambda = 0, m^2 > 0 is the free field with
// <|phi_k|^2> = 1 / (2 (khat^2 + m^2)).
#pragma once

#include "core/theory/action.h"

namespace latticed {

// The couplings in our convention. The named constructors convert the other
// published conventions by phi = s phi_ours; s^2 is `field_scale_squared`, so
// that e.g. chi_2 of theirs is s^2 chi_2 of ours. Actions agree up to a
// constant: S_theirs(s phi) = S_ours(phi).
struct Phi4Couplings {
  double mass_squared = 0;
  double lambda = 0;
  double field_scale_squared = 1;

  // S = -beta sum_<xy> phi phi + sum (1 - 2 lambda) phi^2 + lambda phi^4
  // (2105.12481): s^2 = 2 / beta, m^2 = 2 (1 - 2 lambda) / beta - 4,
  // lambda_ours = 4 lambda / beta^2.
  static Phi4Couplings FromBosetti(double beta, double lambda);
  // The same with beta = 2 kappa.
  static Phi4Couplings FromHopping(double kappa, double lambda);
  // S = 1/2 (d phi)^2 + m^2/2 phi^2 + g/4! phi^4: s^2 = 2, m^2 unchanged,
  // lambda_ours = g / 6.
  static Phi4Couplings FromContinuum(double mass_squared, double g);
  // S = kappa/2 (d phi)^2 + m^2/2 phi^2 + lambda phi^4 (2301.01504):
  // s^2 = 2 / kappa, m^2_ours = m^2 / kappa, lambda_ours = 4 lambda / kappa^2.
  static Phi4Couplings FromNormflow(double kappa, double mass_squared,
                                    double lambda);
  // S = 1/2 (d phi)^2 + mu^2/2 phi^2 + lambda/4 phi^4 (0902.0045): s^2 = 2,
  // the same numbers.
  static Phi4Couplings FromSchaich(double mu_squared, double lambda);
};

class Phi4 final : public Action {
 public:
  Phi4(Lattice lattice, Phi4Couplings couplings);

  const Lattice& lattice() const override { return lattice_; }
  double Evaluate(absl::Span<const double> phi) const override;
  double Evaluate(absl::Span<const float> phi) const override;
  void Gradient(absl::Span<const double> phi,
                absl::Span<double> gradient) const override;
  std::string Name() const override;

  const Phi4Couplings& couplings() const { return couplings_; }

 private:
  Lattice lattice_;
  Phi4Couplings couplings_;
};

}  // namespace latticed
