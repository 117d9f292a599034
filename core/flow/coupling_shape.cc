#include "core/flow/coupling_shape.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace latticed {

int64_t CouplingLayer::Outputs() const {
  switch (transform) {
    case CouplingTransform::kAdditive:
      return 1;
    case CouplingTransform::kShiftScale:
    case CouplingTransform::kScaleShift:
      return 2;
    case CouplingTransform::kSpline:
      return 3 * segments - 1;
  }
  return 0;
}

std::vector<int64_t> SitesOfParity(const Lattice& lattice, int64_t parity) {
  std::vector<int64_t> sites;
  for (int64_t x = 0; x < lattice.Sites(); ++x) {
    if ((x / lattice.l1 + x % lattice.l1) % 2 == parity) sites.push_back(x);
  }
  return sites;
}

ParameterLayout LayoutOf(const CouplingShape& shape) {
  ParameterLayout layout;
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const CouplingLayer& layer = shape.layers[i];
    const CouplingNet& net = layer.net;
    const int64_t parity = static_cast<int64_t>(i % 2);
    const auto sites = [&](int64_t of) {
      return static_cast<int64_t>(SitesOfParity(shape.lattice, of).size());
    };
    int64_t inputs = net.convolutional ? 1 : sites(1 - parity);
    for (size_t j = 0; j <= net.hidden.size(); ++j) {
      const int64_t outputs =
          j < net.hidden.size()
              ? net.hidden[j]
              : layer.Outputs() * (net.convolutional ? 1 : sites(parity));
      std::vector<int64_t> weight = {outputs, inputs};
      int64_t fan_in = inputs;
      if (net.convolutional) {
        weight.insert(weight.end(), {net.kernel, net.kernel});
        fan_in *= net.kernel * net.kernel;
      }
      const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
      const ParameterStart start = {.low = -bound, .high = bound};
      layout.push_back({absl::StrCat("layer", i, ".weight", j), weight, start});
      if (!layer.odd) {
        layout.push_back(
            {absl::StrCat("layer", i, ".bias", j), {outputs}, start});
      }
      inputs = outputs;
    }
  }
  if (shape.rescaling) layout.push_back({"log_scale", {1}, {}});
  return layout;
}

}  // namespace latticed
