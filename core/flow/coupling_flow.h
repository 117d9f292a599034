// Coupling flows: layers that change the sites of one parity by an invertible
// map of each, whose numbers a net computes from the sites of the other parity
// (realNVP of 2101.08176; 2105.12481 and 2112.15532). log q is exact to
// rounding in both directions.
//
// The nets see nothing but the configuration itself. 2105.12481's code divided
// their input by the standard deviation over the batch, so that the density of
// a draw depended on its batch mates, and counted log-derivatives of splines
// outside their interval; here log q is a function of phi.
#pragma once

#include <vector>

#include "core/flow/coupling_shape.h"
#include "core/flow/flow.h"

namespace latticed {

class CouplingFlow final : public Flow {
 public:
  // `parameters` is flat as LayoutOf(shape); its dtype and device are the
  // flow's. Differentiable in it.
  CouplingFlow(const CouplingShape& shape, const at::Tensor& parameters);

  // The layers, and the rescaling if there is one.
  int64_t Stages() const override;
  Draw ForwardStage(int64_t stage, const Draw& draw) const override;
  Draw ReverseStage(int64_t stage, const Draw& draw) const override;

 private:
  struct Layer {
    std::vector<at::Tensor> weights, biases;  // no biases: odd
  };

  Draw Couple(int64_t stage, const Draw& draw, bool forward) const;
  Draw Rescale(const Draw& draw, double sign) const;
  // [B, outputs, active sites]
  at::Tensor RunNet(int64_t layer, const at::Tensor& phi) const;

  CouplingShape shape_;
  std::vector<Layer> layers_;
  at::Tensor log_scale_;
  at::Tensor sites_[2];  // of each parity, int64
  at::Tensor mask_[2];   // [L_0, L_1], 1 on them
};

}  // namespace latticed
