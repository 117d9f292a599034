// Euclidean actions S[phi] of a real scalar field; p(phi) = exp(-S) / Z.
#pragma once

#include <string>

#include "absl/types/span.h"
#include "core/theory/lattice.h"

namespace latticed {

// Fields are spans of Sites() values in C order, lattice units, one
// configuration. A span of another size is a broken invariant and aborts.
// Thread-safe: actions are immutable.
class Action {
 public:
  virtual ~Action() = default;

  virtual const Lattice& lattice() const = 0;

  // S[phi], accumulated in double.
  virtual double Evaluate(absl::Span<const double> phi) const = 0;
  virtual double Evaluate(absl::Span<const float> phi) const = 0;

  // gradient[x] = dS / dphi_x.
  virtual void Gradient(absl::Span<const double> phi,
                        absl::Span<double> gradient) const = 0;

  // For logs and provenance: "phi4 m2=-4 lambda=6.975 on 6x6".
  virtual std::string Name() const = 0;
};

}  // namespace latticed
