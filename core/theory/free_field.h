// Exact results of the free field S = sum_x phi (-Laplace + m^2) phi, m^2 > 0:
// the oracle that the whole stack is held against.
#pragma once

#include <vector>

#include "core/theory/lattice.h"

namespace latticed {

// log Z = (V/2) log pi - (1/2) sum_k log(khat^2 + m^2).
double FreeFieldLogZ(const Lattice& lattice, double mass_squared);

// G(r) = <phi_x phi_{x+r}> = (1/V) sum_k cos(k r) / (2 (khat^2 + m^2)),
// [L_0 * L_1] in C order of r.
std::vector<double> FreeFieldPropagator(const Lattice& lattice,
                                        double mass_squared);

}  // namespace latticed
