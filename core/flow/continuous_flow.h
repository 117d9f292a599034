// Continuous flows: d phi / dt = v(phi, t), d log q / dt = -div v on [0, 1]
// (2110.02673 eqs. 4-5), by N equal steps of the classical Runge-Kutta method.
// log q is float64 and approximates the density of the exact flow to O(N^-4).
#pragma once

#include <memory>

#include "core/flow/flow.h"

namespace latticed {

class ContinuousFlow final : public Flow {
 public:
  // steps >= 1.
  ContinuousFlow(std::unique_ptr<const VectorField> field, int64_t steps);

  Draw Forward(const Draw& z) const override;
  // Runs the same steps backwards in time.
  Draw Reverse(const Draw& phi) const override;

 private:
  Draw Integrate(const Draw& start, double t, double h) const;

  std::unique_ptr<const VectorField> field_;
  int64_t steps_;
};

}  // namespace latticed
