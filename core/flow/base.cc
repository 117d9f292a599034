#include "core/flow/base.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/flow/equivariant_field.h"

namespace latticed {

at::Tensor StandardNormal::LogDensity(const at::Tensor& z) const {
  const at::Tensor flat = z.flatten(1).to(at::kDouble);
  return -0.5 * flat.square().sum(1) -
         0.5 * static_cast<double>(flat.size(1)) * std::log(2 * M_PI);
}

Draw StandardNormal::FromNormals(const at::Tensor& normals) const {
  return {normals, LogDensity(normals)};
}

FreeFieldBase::FreeFieldBase(const Lattice& lattice, double mass) {
  TORCH_CHECK(mass > 0, "free-field base: mass ", mass, " must be positive");
  const auto options = at::TensorOptions().dtype(at::kDouble);
  deviation_ = at::empty({lattice.l0, lattice.l1}, options);
  auto deviation = deviation_.accessor<double, 2>();
  for (int64_t k0 = 0; k0 < lattice.l0; ++k0) {
    for (int64_t k1 = 0; k1 < lattice.l1; ++k1) {
      deviation[k0][k1] =
          std::sqrt(0.5 / (KhatSquared(lattice, k0, k1) + mass * mass));
    }
  }
  cas0_ = CasMatrix(lattice.l0, options);
  cas1_ = CasMatrix(lattice.l1, options);
  log_determinant_ = deviation_.log().sum().item<double>();
}

at::Tensor FreeFieldBase::Filter(const at::Tensor& fields,
                                 const at::Tensor& factor) const {
  const at::Tensor c0 = cas0_.to(fields.options());
  const at::Tensor c1 = cas1_.to(fields.options());
  const at::Tensor modes = at::matmul(c0, at::matmul(fields, c1));
  return at::matmul(c0, at::matmul(modes * factor.to(fields.options()), c1));
}

at::Tensor FreeFieldBase::LogDensity(const at::Tensor& z) const {
  const at::Tensor normals = Filter(z.to(at::kDouble), deviation_.reciprocal());
  return StandardNormal().LogDensity(normals) - log_determinant_;
}

Draw FreeFieldBase::FromNormals(const at::Tensor& normals) const {
  const at::Tensor z = Filter(normals, deviation_);
  // Of the rounded z, so that the pair is consistent.
  return {z, LogDensity(z)};
}

}  // namespace latticed
