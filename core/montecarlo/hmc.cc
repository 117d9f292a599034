#include "core/montecarlo/hmc.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace latticed {
namespace {

// Minimises the norm of the error operator.
constexpr double kXi = 0.1931833275037836;

double KineticEnergy(const std::vector<double>& momentum) {
  double sum = 0;
  for (const double p : momentum) sum += p * p;
  return sum / 2;
}

void Drift(double step, const std::vector<double>& momentum,
           std::vector<double>* phi) {
  for (size_t x = 0; x < phi->size(); ++x) (*phi)[x] += step * momentum[x];
}

}  // namespace

Hmc::Hmc(const Action& action, const HmcOptions& options)
    : action_(action),
      options_(options),
      momentum_(action.lattice().Sites()),
      gradient_(action.lattice().Sites()),
      proposal_(action.lattice().Sites()) {}

void Hmc::Kick(double step, absl::Span<const double> phi) {
  action_.Gradient(phi, absl::MakeSpan(gradient_));
  for (size_t x = 0; x < momentum_.size(); ++x) {
    momentum_[x] -= step * gradient_[x];
  }
}

HmcStep Hmc::Update(absl::Span<double> phi, RandomSequence& random) {
  random.Normals(absl::MakeSpan(momentum_));
  const double step = options_.length / static_cast<double>(options_.steps) *
                      (1 + options_.jitter * (2 * random.Uniform() - 1));
  proposal_.assign(phi.begin(), phi.end());
  const double before = KineticEnergy(momentum_) + action_.Evaluate(phi);
  Kick(kXi * step, proposal_);
  for (int64_t i = 0; i < options_.steps; ++i) {
    Drift(step / 2, momentum_, &proposal_);
    Kick((1 - 2 * kXi) * step, proposal_);
    Drift(step / 2, momentum_, &proposal_);
    // The last kick of one step and the first of the next are one.
    Kick((i + 1 < options_.steps ? 2 : 1) * kXi * step, proposal_);
  }
  HmcStep result;
  result.delta_h = KineticEnergy(momentum_) +
                   action_.Evaluate(absl::MakeConstSpan(proposal_)) - before;
  result.accepted = random.Uniform() <= std::exp(-result.delta_h);
  if (result.accepted) {
    std::copy(proposal_.begin(), proposal_.end(), phi.begin());
  }
  return result;
}

}  // namespace latticed
