// The flows that are measured: the bundled ones' shape at any L, weights of the
// free-field start (arithmetic does not depend on them).
#pragma once

#include "core/factory.h"

namespace latticed::bench {

inline v1::ModelSpec StandardSpec(int64_t length, double lambda) {
  v1::ModelSpec spec;
  auto& couplings = *spec.mutable_action()->mutable_phi4()->mutable_latticed();
  couplings.set_mass_squared(-4);
  couplings.set_lambda(lambda);
  spec.mutable_lattice()->add_extent(length);
  spec.mutable_lattice()->add_extent(length);
  spec.mutable_base()->mutable_standard_normal();
  auto& flow = *spec.mutable_flow()->mutable_equivariant();
  flow.set_sine_features(8);
  flow.set_gates(4);
  flow.set_time_nodes(9);
  flow.set_rk4_steps(8);
  spec.set_dtype(v1::DTYPE_FLOAT32);
  spec.set_tile(length <= 8 ? 256 : 128);
  return spec;
}

inline std::vector<float> StartParameters(const v1::ModelSpec& spec) {
  const EquivariantShape shape = MakeShape(spec);
  return FreeFieldStart(shape, 4.0 / static_cast<double>(shape.lattice.l0),
                        0.8);
}

}  // namespace latticed::bench
