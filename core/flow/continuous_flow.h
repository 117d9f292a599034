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

  int64_t Stages() const override { return steps_; }
  Draw ForwardStage(int64_t stage, const Draw& draw) const override;
  // The same step backwards in time.
  Draw ReverseStage(int64_t stage, const Draw& draw) const override;

 private:
  Draw Step(const Draw& start, double t, double h) const;

  std::unique_ptr<const VectorField> field_;
  int64_t steps_;
};

}  // namespace latticed
