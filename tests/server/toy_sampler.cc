#include "tests/server/toy_sampler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/random/stream.h"
#include "core/theory/phi4.h"

namespace latticed {
namespace {

constexpr double kLogTwoPi = 1.8378770664093453;

// log of the normal density around `centre` with standard deviation `scale`.
double LogNormal(absl::Span<const float> phi, double centre, double scale) {
  double sum = 0;
  for (const float value : phi) {
    const double z = (double{value} - centre) / scale;
    sum += -z * z / 2 - kLogTwoPi / 2 - std::log(scale);
  }
  return sum;
}

double LogAddExp(double a, double b) {
  return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b)));
}

double ToyAction(const ToyFlow& flow, absl::Span<const float> phi) {
  if (flow.free_field) {
    return Phi4({flow.l0, flow.l1}, {.mass_squared = 0.5}).Evaluate(phi);
  }
  const double normalisation = static_cast<double>(phi.size()) * kLogTwoPi / 2;
  if (flow.well == 0) return -LogNormal(phi, 0, 1) - normalisation;
  return -LogAddExp(LogNormal(phi, flow.well, 1),
                    LogNormal(phi, -flow.well, 1)) -
         normalisation;
}

double LogQ(const ToyFlow& flow, absl::Span<const float> phi) {
  const double up = LogNormal(phi, flow.well, flow.scale);
  if (flow.well == 0 || flow.collapsed) return up;
  return LogAddExp(up, LogNormal(phi, -flow.well, flow.scale)) - std::log(2.0);
}

class ToySampler final : public TileSampler {
 public:
  explicit ToySampler(const ToyFlow& flow)
      : flow_(flow), lattice_{flow.l0, flow.l1} {
    ++ToySamplersAlive();
  }
  ~ToySampler() override { --ToySamplersAlive(); }

  const Lattice& lattice() const override { return lattice_; }
  int64_t tile() const override { return flow_.tile; }
  std::string numerics_mode() const override {
    return absl::StrCat("float32 tile=", flow_.tile, " toy cpu");
  }

  void Draw(absl::Span<const DrawId> ids, const DrawSpans& out) override {
    if (ids.empty() || static_cast<int64_t>(ids.size()) > tile()) std::abort();
    ++ToyTiles();
    ++tiles_;
    if (tiles_ == flow_.oom_tile) throw std::bad_alloc();
    if (flow_.lost_tile > 0 && tiles_ >= flow_.lost_tile) {
      throw DeviceLost("CUDA error: an illegal memory access was encountered");
    }
    if (flow_.delay_us > 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(flow_.delay_us));
    }
    const size_t sites = static_cast<size_t>(lattice_.Sites());
    for (size_t i = 0; i < ids.size(); ++i) {
      if (flow_.throw_from >= 0 &&
          ids[i].index >= static_cast<uint64_t>(flow_.throw_from)) {
        throw std::runtime_error("the toy is broken");
      }
      const ToyDraw draw = DrawToy(flow_, ids[i].stream, ids[i].index);
      std::copy(draw.phi.begin(), draw.phi.end(),
                out.phi.begin() + static_cast<ptrdiff_t>(i * sites));
      out.log_q[i] = draw.log_q;
      out.action[i] = draw.action;
    }
  }

  void Evaluate(absl::Span<const float> phi, absl::Span<double> log_q,
                absl::Span<double> action) override {
    const size_t sites = static_cast<size_t>(lattice_.Sites());
    if (log_q.size() > static_cast<size_t>(tile())) std::abort();
    ++ToyTiles();
    if (flow_.delay_us > 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(flow_.delay_us));
    }
    for (size_t i = 0; i < log_q.size(); ++i) {
      const auto field = phi.subspan(i * sites, sites);
      log_q[i] = LogQ(flow_, field) + flow_.evaluate_error;
      if (flow_.evaluate_error >= 1e30f) log_q[i] = std::nan("");
      action[i] = ToyAction(flow_, field);
    }
  }

 private:
  const ToyFlow flow_;
  const Lattice lattice_;
  int tiles_ = 0;
};

}  // namespace

std::atomic<int64_t>& ToyTiles() {
  static std::atomic<int64_t> tiles{0};
  return tiles;
}

std::atomic<int>& ToySamplersAlive() {
  static std::atomic<int> alive{0};
  return alive;
}

ToyDraw DrawToy(const ToyFlow& flow, const StreamId& stream, uint64_t index) {
  ToyDraw draw;
  draw.phi.resize(flow.l0 * flow.l1);
  Normals(stream, index, Purpose::kBaseDraw, absl::MakeSpan(draw.phi));
  const bool up =
      flow.collapsed || Uniform(stream, index, Purpose::kAccept) < 0.5;
  for (float& phi : draw.phi) {
    phi = phi * flow.scale + (up ? flow.well : -flow.well);
  }
  draw.log_q = LogQ(flow, draw.phi) + flow.step_error;
  draw.action = ToyAction(flow, draw.phi);
  if (flow.numerics == 2) draw.log_q = std::nextafter(draw.log_q, 0.0);
  if (flow.nan_every > 0 && index % static_cast<uint64_t>(flow.nan_every) ==
                                static_cast<uint64_t>(flow.nan_every) - 1) {
    draw.log_q = std::nan("");
  }
  return draw;
}

Checkpoint PublishToy(const std::string& repository, const ToyFlow& flow) {
  v1::Manifest manifest;
  v1::ModelSpec& spec = *manifest.mutable_spec();
  spec.mutable_action()->mutable_free_field()->set_mass_squared(0.5);
  spec.mutable_lattice()->add_extent(flow.l0);
  spec.mutable_lattice()->add_extent(flow.l1);
  spec.set_tile(flow.tile);
  spec.set_ess_floor(flow.ess_floor);
  manifest.mutable_quality()->set_ess(0.5);
  manifest.mutable_quality()->set_acceptance(0.25);
  manifest.mutable_quality()->set_step_doubling_rms(1e-3);
  manifest.set_log_weight_reference(0.5 * flow.l0 * flow.l1 * kLogTwoPi);
  const std::vector<float> values = {flow.scale,
                                     static_cast<float>(flow.nan_every),
                                     static_cast<float>(flow.delay_us),
                                     static_cast<float>(flow.throw_from),
                                     flow.unusable ? 1.0f : 0.0f,
                                     static_cast<float>(flow.numerics),
                                     flow.well,
                                     flow.collapsed ? 1.0f : 0.0f,
                                     flow.step_error,
                                     flow.evaluate_error,
                                     static_cast<float>(flow.oom_tile),
                                     static_cast<float>(flow.lost_tile),
                                     flow.free_field ? 1.0f : 0.0f};
  const Weights weights = {
      {"toy", {{static_cast<int64_t>(values.size())}, values}}};
  auto published = Publish(repository, flow.model, manifest, weights);
  if (!published.ok()) {
    std::cerr << published.status() << std::endl;
    std::abort();
  }
  return *std::move(published);
}

SamplerFactory ToySamplers(int numerics) {
  return [numerics](
             const Checkpoint& checkpoint,
             int step_factor) -> absl::StatusOr<std::unique_ptr<TileSampler>> {
    const std::vector<float>& values = checkpoint.weights.at("toy").values;
    const v1::ModelSpec& spec = checkpoint.manifest.spec();
    ToyFlow flow;
    flow.model = checkpoint.manifest.model();
    flow.l0 = spec.lattice().extent(0);
    flow.l1 = spec.lattice().extent(1);
    flow.tile = spec.tile();
    flow.scale = values[0];
    flow.nan_every = static_cast<int>(values[1]);
    flow.delay_us = static_cast<int>(values[2]);
    flow.throw_from = static_cast<int64_t>(values[3]);
    flow.numerics = numerics != 1 ? numerics : static_cast<int>(values[5]);
    flow.well = values[6];
    flow.collapsed = values[7] != 0;
    flow.step_error = step_factor == 1 ? values[8] : 0;
    flow.evaluate_error = values[9];
    flow.oom_tile = static_cast<int>(values[10]);
    flow.lost_tile = static_cast<int>(values[11]);
    flow.free_field = values[12] != 0;
    if (values[4] != 0) {
      return absl::FailedPreconditionError(
          "weights.toy: has the wrong shape; publish it again");
    }
    return std::make_unique<ToySampler>(flow);
  };
}

CouplingsOf ToyCouplings() {
  return [](const v1::Action& action) -> absl::StatusOr<Phi4Couplings> {
    if (!action.has_free_field()) {
      return absl::InvalidArgumentError("not a free field");
    }
    return Phi4Couplings{.mass_squared = action.free_field().mass_squared()};
  };
}

}  // namespace latticed
