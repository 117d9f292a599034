#include "core/kernels/cpu/equivariant_kernel.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/equivariant_kernel.cc"
#include "hwy/foreach_target.h"
// clang-format on
#include "core/kernels/cpu/equivariant-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace latticed {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
int64_t LanesOf() {
  return static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
}

// [n, L_0, L_1] <-> [L_0][L_1 + 1][lanes]; lanes past n are zero.
template <class T>
void Pack(const Lattice& lattice, int64_t n, const T* in, T* out) {
  const int64_t lanes = LanesOf<T>();
  for (int64_t x0 = 0; x0 < lattice.l0; ++x0) {
    T* row = out + x0 * (lattice.l1 + 1) * lanes;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const T* from = in + lane * lattice.Sites() + x0 * lattice.l1;
      for (int64_t x1 = 0; x1 < lattice.l1; ++x1) {
        row[x1 * lanes + lane] = lane < n ? from[x1] : T{0};
      }
    }
  }
}
template <class T>
void Unpack(const Lattice& lattice, int64_t n, const T* in, T* out) {
  const int64_t lanes = LanesOf<T>();
  for (int64_t x0 = 0; x0 < lattice.l0; ++x0) {
    const T* row = in + x0 * (lattice.l1 + 1) * lanes;
    for (int64_t lane = 0; lane < n; ++lane) {
      T* to = out + lane * lattice.Sites() + x0 * lattice.l1;
      for (int64_t x1 = 0; x1 < lattice.l1; ++x1) {
        to[x1] = row[x1 * lanes + lane];
      }
    }
  }
}

// out = x + a y.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void AddScaled(D d, int64_t size, const T* HWY_RESTRICT x, double a,
                          const T* HWY_RESTRICT y, T* HWY_RESTRICT out) {
  const auto scale = hn::Set(d, static_cast<T>(a));
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < size; i += lanes) {
    hn::Store(hn::MulAdd(scale, hn::Load(d, y + i), hn::Load(d, x + i)), d,
              out + i);
  }
}
// x += a y.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void Accumulate(D d, int64_t size, double a, const T* HWY_RESTRICT y,
                           T* HWY_RESTRICT x) {
  const auto scale = hn::Set(d, static_cast<T>(a));
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < size; i += lanes) {
    hn::Store(hn::MulAdd(scale, hn::Load(d, y + i), hn::Load(d, x + i)), d,
              x + i);
  }
}

// Stage i of RK4 starts at phi + kReach[i] h k_{i-1}, at half-step kTime[i]
// after the step's start, and weighs kWeight[i] h.
constexpr double kReach[4] = {0, 0.5, 0.5, 1};
constexpr int kTime[4] = {0, 1, 1, 2};
constexpr double kWeight[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};

template <class T>
void IntegrateT(const FieldTable<T>& table, Workspace<T>& space, int64_t n,
                const T* in, bool forward, T* out, double* log_q) {
  const hn::ScalableTag<T> d;
  FieldEvaluator field(d, table, space);
  const int64_t size = space.field_size;
  const int64_t steps = table.shape.steps;
  const double h = (forward ? 1.0 : -1.0) / steps;
  double change[HWY_MAX_BYTES / sizeof(T)] = {};
  Pack(table.shape.lattice, n, in, space.phi);
  for (int64_t step = 0; step < steps; ++step) {
    for (int i = 0; i < 4; ++i) {
      const int64_t m =
          forward ? 2 * step + kTime[i] : 2 * (steps - step) - kTime[i];
      const T* at = space.phi;
      if (i > 0) {
        AddScaled(d, size, space.phi, kReach[i] * h, space.velocity,
                  space.stage);
        at = space.stage;
      }
      // The weight of the integral along the flow, whatever the direction.
      field.Velocity(at, m, kWeight[i] / steps, space.velocity, change);
      if (i == 0) {
        AddScaled(d, size, space.phi, kWeight[i] * h, space.velocity,
                  space.sum);
      } else {
        Accumulate(d, size, kWeight[i] * h, space.velocity, space.sum);
      }
    }
    std::swap(space.phi, space.sum);
  }
  Unpack(table.shape.lattice, n, space.phi, out);
  for (int64_t lane = 0; lane < n; ++lane) log_q[lane] += change[lane];
}

template <class T>
void ForwardScoreT(const FieldTable<T>& table, Workspace<T>& space, int64_t n,
                   const T* z, T* phi, T* score, double* log_q) {
  const hn::ScalableTag<T> d;
  FieldEvaluator field(d, table, space);
  const int64_t size = space.field_size;
  const double h = 1.0 / table.shape.steps;
  double change[HWY_MAX_BYTES / sizeof(T)] = {};
  Pack(table.shape.lattice, n, z, space.phi);
  Pack(table.shape.lattice, n, score, space.score);
  for (int64_t step = 0; step < table.shape.steps; ++step) {
    for (int i = 0; i < 4; ++i) {
      T* at = space.stages + (4 * step + i) * size;
      AddScaled(d, size, space.phi, kReach[i] * h, space.velocity, at);
      AddScaled(d, size, space.score, kReach[i] * h, space.score_rate,
                space.score_stage);
      field.Score(at, space.score_stage, 2 * step + kTime[i], kWeight[i] * h,
                  space.velocity, space.score_rate, change);
      if (i == 0) {
        AddScaled(d, size, space.phi, kWeight[i] * h, space.velocity,
                  space.sum);
        AddScaled(d, size, space.score, kWeight[i] * h, space.score_rate,
                  space.score_sum);
      } else {
        Accumulate(d, size, kWeight[i] * h, space.velocity, space.sum);
        Accumulate(d, size, kWeight[i] * h, space.score_rate, space.score_sum);
      }
    }
    std::swap(space.phi, space.sum);
    std::swap(space.score, space.score_sum);
  }
  Unpack(table.shape.lattice, n, space.phi, phi);
  Unpack(table.shape.lattice, n, space.score, score);
  for (int64_t lane = 0; lane < n; ++lane) log_q[lane] += change[lane];
}

// With ubar the cotangent of a step's end, stage cotangents are
//   kbar_i = kWeight[i] h ubar + kReach[i+1] h J_{i+1}^T kbar_{i+1}
// and the start's is ubar + sum_i J_i^T kbar_i.
template <class T>
void BackwardT(const FieldTable<T>& table, Workspace<T>& space, int64_t n,
               T* cotangent) {
  const hn::ScalableTag<T> d;
  FieldEvaluator field(d, table, space);
  const int64_t size = space.field_size;
  const double h = 1.0 / table.shape.steps;
  T* end = space.score;
  T* start = space.score_sum;
  T* stage = space.score_stage;
  T* pulled = space.score_rate;
  const auto zero = hn::Zero(d);
  Pack(table.shape.lattice, n, cotangent, end);
  for (int64_t step = table.shape.steps - 1; step >= 0; --step) {
    std::copy_n(end, size, start);
    for (int i = 3; i >= 0; --i) {
      for (int64_t x = 0; x < size; x += hn::Lanes(d)) {
        const auto scale = hn::Set(d, static_cast<T>(kWeight[i] * h));
        hn::Store(hn::MulAdd(scale, hn::Load(d, end + x), zero), d, stage + x);
      }
      if (i < 3) Accumulate(d, size, kReach[i + 1] * h, pulled, stage);
      field.Pullback(space.stages + (4 * step + i) * size, stage,
                     2 * step + kTime[i], pulled);
      Accumulate(d, size, 1.0, pulled, start);
    }
    std::swap(end, start);
  }
  Unpack(table.shape.lattice, n, end, cotangent);
}

template <class T>
void EvaluateT(const FieldTable<T>& table, Workspace<T>& space, int64_t n,
               int64_t m, const T* phi, const T* s, T* velocity,
               double* divergence, T* rate, T* pulled) {
  const hn::ScalableTag<T> d;
  FieldEvaluator field(d, table, space);
  const Lattice& lattice = table.shape.lattice;
  double minus_divergence[HWY_MAX_BYTES / sizeof(T)] = {};
  Pack(lattice, n, phi, space.phi);
  Pack(lattice, n, s, space.score);
  field.Score(space.phi, space.score, m, 1, space.velocity, space.score_rate,
              minus_divergence);
  Unpack(lattice, n, space.velocity, velocity);
  Unpack(lattice, n, space.score_rate, rate);
  for (int64_t lane = 0; lane < n; ++lane) {
    divergence[lane] = -minus_divergence[lane];
  }
  field.Pullback(space.phi, space.score, m, space.score_rate);
  Unpack(lattice, n, space.score_rate, pulled);
}

// HWY_EXPORT takes plain functions.
int64_t LanesF32() { return LanesOf<float>(); }
int64_t LanesF64() { return LanesOf<double>(); }
bool TargetFuses() { return HWY_NATIVE_FMA != 0; }

// NOLINTBEGIN(bugprone-macro-parentheses): T is a type.
#define LATTICED_KERNELS(T, SUFFIX)                                            \
  void Integrate##SUFFIX(const FieldTable<T>& table, Workspace<T>& space,      \
                         int64_t n, const T* in, bool forward, T* out,         \
                         double* log_q) {                                      \
    IntegrateT<T>(table, space, n, in, forward, out, log_q);                   \
  }                                                                            \
  void ForwardScore##SUFFIX(const FieldTable<T>& table, Workspace<T>& space,   \
                            int64_t n, const T* z, T* phi, T* score,           \
                            double* log_q) {                                   \
    ForwardScoreT<T>(table, space, n, z, phi, score, log_q);                   \
  }                                                                            \
  void Backward##SUFFIX(const FieldTable<T>& table, Workspace<T>& space,       \
                        int64_t n, T* cotangent) {                             \
    BackwardT<T>(table, space, n, cotangent);                                  \
  }                                                                            \
  void Evaluate##SUFFIX(const FieldTable<T>& table, Workspace<T>& space,       \
                        int64_t n, int64_t m, const T* phi, const T* s,        \
                        T* velocity, double* divergence, T* rate, T* pulled) { \
    EvaluateT<T>(table, space, n, m, phi, s, velocity, divergence, rate,       \
                 pulled);                                                      \
  }
// NOLINTEND(bugprone-macro-parentheses)
LATTICED_KERNELS(float, F32)
LATTICED_KERNELS(double, F64)
#undef LATTICED_KERNELS

}  // namespace HWY_NAMESPACE
}  // namespace latticed
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace latticed {

HWY_EXPORT(LanesF32);
HWY_EXPORT(LanesF64);
HWY_EXPORT(TargetFuses);
HWY_EXPORT(IntegrateF32);
HWY_EXPORT(IntegrateF64);
HWY_EXPORT(ForwardScoreF32);
HWY_EXPORT(ForwardScoreF64);
HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardF64);
HWY_EXPORT(EvaluateF32);
HWY_EXPORT(EvaluateF64);

// Calls the float or the double kernel of the machine's instruction set.
#define LATTICED_CALL(NAME, ...)                    \
  do {                                              \
    if constexpr (sizeof(T) == 4) {                 \
      HWY_DYNAMIC_DISPATCH(NAME##F32)(__VA_ARGS__); \
    } else {                                        \
      HWY_DYNAMIC_DISPATCH(NAME##F64)(__VA_ARGS__); \
    }                                               \
  } while (false)

bool FusesMultiplyAdd() { return HWY_DYNAMIC_DISPATCH(TargetFuses)(); }

template <class T>
EquivariantKernel<T>::EquivariantKernel(const EquivariantShape& shape)
    : table_(shape) {}

template <class T>
int64_t EquivariantKernel<T>::Lanes() {
  if constexpr (sizeof(T) == 4) return HWY_DYNAMIC_DISPATCH(LanesF32)();
  return HWY_DYNAMIC_DISPATCH(LanesF64)();
}

template <class T>
Workspace<T> EquivariantKernel<T>::MakeWorkspace(bool training) const {
  return Workspace<T>(table_.shape, Lanes(), training);
}

template <class T>
void EquivariantKernel<T>::SetParameters(absl::Span<const float> parameters) {
  table_.Set(parameters);
}

template <class T>
void EquivariantKernel<T>::Forward(Workspace<T>& space, int64_t n, const T* z,
                                   T* phi, double* log_q) const {
  LATTICED_CALL(Integrate, table_, space, n, z, /*forward=*/true, phi, log_q);
}

template <class T>
void EquivariantKernel<T>::Reverse(Workspace<T>& space, int64_t n, const T* phi,
                                   T* z, double* log_q) const {
  LATTICED_CALL(Integrate, table_, space, n, phi, /*forward=*/false, z, log_q);
}

template <class T>
void EquivariantKernel<T>::ForwardScore(Workspace<T>& space, int64_t n,
                                        const T* z, T* phi, T* score,
                                        double* log_q) const {
  LATTICED_CALL(ForwardScore, table_, space, n, z, phi, score, log_q);
}

template <class T>
void EquivariantKernel<T>::Backward(Workspace<T>& space, int64_t n,
                                    T* cotangent) const {
  LATTICED_CALL(Backward, table_, space, n, cotangent);
}

template <class T>
void EquivariantKernel<T>::AddGradient(const Workspace<T>& space,
                                       absl::Span<double> gradient) const {
  const EquivariantShape& shape = table_.shape;
  const int64_t kernels = shape.gates * shape.Features();
  for (int64_t m = 0; m <= 2 * shape.steps; ++m) {
    for (int64_t t = 0; t < shape.nodes; ++t) {
      const double weight = HatWeight(shape, m, t);
      if (weight == 0) continue;
      const double* from = space.khat_gradient + m * shape.orbits * kernels;
      double* to = gradient.data() + t * kernels * shape.orbits;
      for (int64_t o = 0; o < shape.orbits; ++o) {
        for (int64_t i = 0; i < kernels; ++i) {
          to[i * shape.orbits + o] += weight * from[o * kernels + i];
        }
      }
    }
  }
  const int64_t lanes = Lanes();
  for (int64_t lane = 0; lane < lanes; ++lane) {
    for (int64_t f = 0; f < shape.sines; ++f) {
      gradient[shape.OmegaOffset() + f] +=
          space.omega_gradient[f * lanes + lane];
    }
    for (int64_t g = 1; g < shape.gates; ++g) {
      gradient[shape.AlphaOffset() + g - 1] +=
          space.alpha_gradient[g * lanes + lane];
    }
  }
}

template <class T>
void EquivariantKernel<T>::Evaluate(Workspace<T>& space, int64_t n, int64_t m,
                                    const T* phi, const T* s, T* velocity,
                                    double* divergence, T* rate,
                                    T* pulled) const {
  LATTICED_CALL(Evaluate, table_, space, n, m, phi, s, velocity, divergence,
                rate, pulled);
}

template class EquivariantKernel<float>;
template class EquivariantKernel<double>;

}  // namespace latticed
#endif  // HWY_ONCE
