// Sizes and parameters of a coupling flow (coupling_flow.h). Plain numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/flow/parameters.h"
#include "core/theory/lattice.h"

namespace latticed {

// What a coupling does to the sites it changes, given numbers s, t, ... that a
// net computes from the others.
enum class CouplingTransform {
  kAdditive,    // phi' = phi - t                       (2105.12481 eq. 13)
  kShiftScale,  // phi' = (phi - t) e^-s                (2105.12481 eq. 14)
  kScaleShift,  // phi' = phi e^s + t                   (2101.08176 eq. 26)
  kSpline,      // rational-quadratic, rational_quadratic_spline.h
};

// One net, of layers with an activation in between.
struct CouplingNet {
  bool convolutional = false;   // else dense, on the flat passive sites
  std::vector<int64_t> hidden;  // channels or widths between the layers
  int64_t kernel = 3;           // extent of the convolutions, odd
  bool leaky_relu = false;      // slope 0.01; else tanh
  bool tanh_output = false;     // also after the last layer
};

struct CouplingLayer {
  CouplingTransform transform = CouplingTransform::kAdditive;
  CouplingNet net;
  // The coupling commutes with phi -> -phi exactly: no biases and odd
  // activations make s and t odd, and |s| replaces s. Not for splines.
  bool odd = false;
  int64_t segments = 8;  // K of a spline on [-interval, interval]
  double interval = 5;

  // Numbers the net gives for each site.
  int64_t Outputs() const;
};

struct CouplingShape {
  Lattice lattice;
  // Layer i changes the sites with (x_0 + x_1) % 2 == i % 2.
  std::vector<CouplingLayer> layers;
  bool rescaling = false;  // phi' = e^c phi after the last layer
};

// Sites with (x_0 + x_1) % 2 == parity, in C order.
std::vector<int64_t> SitesOfParity(const Lattice& lattice, int64_t parity);

// layer<i>.weight<j>, layer<i>.bias<j> and log_scale, starting as PyTorch does:
// uniform within 1 / sqrt(fan-in).
ParameterLayout LayoutOf(const CouplingShape& shape);

}  // namespace latticed
