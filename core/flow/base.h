// Base distributions r(z), as maps of standard normal deviates, so that every
// base is drawn from the same counter-addressed numbers.
#pragma once

#include "core/flow/flow.h"
#include "core/theory/lattice.h"

namespace latticed {

class BaseDistribution {
 public:
  virtual ~BaseDistribution() = default;
  // z and log r(z) of independent standard normals [B, L_0, L_1].
  virtual Draw FromNormals(const at::Tensor& normals) const = 0;
  // log r(z), [B] float64, of any configuration.
  virtual at::Tensor LogDensity(const at::Tensor& z) const = 0;
};

// log r(z) = -sum_x z_x^2 / 2 - (V/2) log 2 pi.
class StandardNormal final : public BaseDistribution {
 public:
  Draw FromNormals(const at::Tensor& normals) const override;
  at::Tensor LogDensity(const at::Tensor& z) const override;
};

// The Gaussian with <|z_k|^2> = 1 / (2 (khat^2 + M^2)), M > 0: the free field
// of mass M in our convention, r(z) = exp(-S_M[z]) / Z_M with the exact Z_M.
class FreeFieldBase final : public BaseDistribution {
 public:
  FreeFieldBase(const Lattice& lattice, double mass);
  Draw FromNormals(const at::Tensor& normals) const override;
  at::Tensor LogDensity(const at::Tensor& z) const override;

 private:
  // Scales the cas modes of fields by `factor` [L_0, L_1].
  at::Tensor Filter(const at::Tensor& fields, const at::Tensor& factor) const;

  at::Tensor deviation_;  // [L_0, L_1] float64, sqrt of the spectrum
  at::Tensor cas0_, cas1_;
  double log_determinant_ = 0;  // sum_k log deviation_k
};

}  // namespace latticed
