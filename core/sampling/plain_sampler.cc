#include "core/sampling/plain_sampler.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace latticed {

namespace {

// LibTorch's errors of a device as tile_sampler.h has them.
template <typename Function>
void OnDevice(const Function& function) {
  try {
    function();
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    if (absl::StrContains(what, "out of memory") ||
        absl::StrContains(what, "allocate memory")) {  // the CPU's words
      throw std::bad_alloc();
    }
    if (absl::StrContains(what, "CUDA error") ||
        absl::StrContains(what, "CUDNN_STATUS") ||
        absl::StrContains(what, "CUBLAS_STATUS")) {
      throw DeviceLost(what);
    }
    throw;
  }
}

}  // namespace

PlainSampler::PlainSampler(std::unique_ptr<const Flow> flow,
                           std::unique_ptr<const BaseDistribution> base,
                           std::unique_ptr<const Action> action, int64_t tile,
                           std::string device, std::string description)
    : flow_(std::move(flow)),
      base_(std::move(base)),
      action_(std::move(action)),
      tile_(tile),
      device_(std::move(device)),
      description_(std::move(description)) {}

PlainSampler::~PlainSampler() = default;

std::string PlainSampler::numerics_mode() const {
  return absl::StrCat("float32 tile=", tile_, " ", description_, " plain ",
                      device_);
}

// [tile, L_0, L_1] on the device, fields past `count` copies of field 0.
at::Tensor PlainSampler::Tile(const std::function<void(int64_t, float*)>& fill,
                              int64_t count) const {
  const int64_t sites = lattice().Sites();
  at::Tensor fields =
      at::empty({tile_, lattice().l0, lattice().l1}, at::kFloat);
  float* data = fields.data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) fill(i, data + i * sites);
  for (int64_t i = count; i < tile_; ++i) {
    std::copy_n(data, sites, data + i * sites);
  }
  return fields.to(c10::Device(device_));
}

void PlainSampler::Draw(absl::Span<const DrawId> ids, const DrawSpans& out) {
  OnDevice([&] { DrawTile(ids, out); });
}

void PlainSampler::DrawTile(absl::Span<const DrawId> ids,
                            const DrawSpans& out) const {
  const c10::InferenceMode inference;
  const int64_t sites = lattice().Sites();
  const int64_t count = static_cast<int64_t>(ids.size());
  const at::Tensor normals = Tile(
      [&](int64_t i, float* z) {
        Normals(ids[i].stream, ids[i].index, Purpose::kBaseDraw,
                absl::MakeSpan(z, sites));
      },
      count);
  const latticed::Draw draw = flow_->Forward(base_->FromNormals(normals));
  const at::Tensor phi = draw.phi.cpu().contiguous();
  const at::Tensor log_q = draw.log_q.cpu().contiguous();
  std::copy_n(phi.data_ptr<float>(), count * sites, out.phi.data());
  std::copy_n(log_q.data_ptr<double>(), count, out.log_q.data());
  for (int64_t i = 0; i < count; ++i) {
    out.action[i] = action_->Evaluate(
        absl::Span<const float>(out.phi.data() + i * sites, sites));
  }
}

void PlainSampler::Evaluate(absl::Span<const float> phi,
                            absl::Span<double> log_q,
                            absl::Span<double> action) {
  OnDevice([&] { EvaluateTile(phi, log_q, action); });
}

void PlainSampler::EvaluateTile(absl::Span<const float> phi,
                                absl::Span<double> log_q,
                                absl::Span<double> action) const {
  const c10::InferenceMode inference;
  const int64_t sites = lattice().Sites();
  const int64_t count = static_cast<int64_t>(log_q.size());
  const at::Tensor fields =
      Tile([&](int64_t i,
               float* to) { std::copy_n(phi.data() + i * sites, sites, to); },
           count);
  // Reverse carries log q against the flow: it ends at log r(z) from log q, so
  // from 0 it ends at -(log q - log r).
  const latticed::Draw base = flow_->Reverse(
      {fields, at::zeros({tile_}, fields.options().dtype(at::kDouble))});
  const at::Tensor density =
      (base_->LogDensity(base.phi) - base.log_q).cpu().contiguous();
  std::copy_n(density.data_ptr<double>(), count, log_q.data());
  for (int64_t i = 0; i < count; ++i) {
    action[i] = action_->Evaluate(phi.subspan(i * sites, sites));
  }
}

}  // namespace latticed
