// One evaluation of the equivariant vector field
// (core/flow/equivariant_field.h) for as many configurations as a vector has
// lanes, in three or five sweeps over the lattice:
//
//   rows     features h_f, gates a_g, transform along axis 1
//   columns  transform along axis 0, multiply by Khat, transform back
//   rows     transform back along axis 1, assemble v and its divergence
//
// and, where a cotangent u is pulled back (Pullback),
//
//   rows     (same sweep) W_g = a_g u + a_g', transform along axis 1
//   columns  transform along axis 0, multiply by the transposed Khat, back
//   rows     transform back along axis 1, assemble J^T u + ...
//
// Fields are [L_0][L_1 + 1][lanes]: the padding column keeps the rows of one
// column in different cache sets.

#if defined(LATTICED_EQUIVARIANT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATTICED_EQUIVARIANT_INL_H_
#undef LATTICED_EQUIVARIANT_INL_H_
#else
#define LATTICED_EQUIVARIANT_INL_H_
#endif

#include "core/kernels/cpu/cas-inl.h"
#include "core/kernels/cpu/workspace.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace latticed {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// sin and cos of one reduction: |error| < 2 ulp for |x| < 8192.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void SinCos(D d, V x, V& sine, V& cosine) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    sine = hn::Sin(d, x);
    cosine = hn::Cos(d, x);
  } else {
    const hn::RebindToSigned<D> di;
    const auto quadrant = hn::NearestInt(hn::Mul(x, hn::Set(d, 0.636619772f)));
    const V n = hn::ConvertTo(d, quadrant);
    // pi/2 in three parts (Cephes): n times the first two is exact.
    V r = hn::NegMulAdd(n, hn::Set(d, 1.5703125f), x);
    r = hn::NegMulAdd(n, hn::Set(d, 4.837512969970703125e-4f), r);
    r = hn::NegMulAdd(n, hn::Set(d, 7.54978995489188216e-8f), r);
    const V r2 = hn::Mul(r, r);
    V s = hn::MulAdd(r2, hn::Set(d, -1.9515295891e-4f),
                     hn::Set(d, 8.3321608736e-3f));
    s = hn::MulAdd(s, r2, hn::Set(d, -1.6666654611e-1f));
    s = hn::MulAdd(hn::Mul(s, r2), r, r);
    V c = hn::MulAdd(r2, hn::Set(d, 2.443315711809948e-5f),
                     hn::Set(d, -1.388731625493765e-3f));
    c = hn::MulAdd(c, r2, hn::Set(d, 4.166664568298827e-2f));
    c = hn::MulAdd(c, r2, hn::Set(d, -0.5f));
    c = hn::MulAdd(c, r2, hn::Set(d, 1.0f));
    const auto one = hn::Set(di, 1);
    const auto two = hn::Set(di, 2);
    const auto swap = hn::RebindMask(d, hn::Eq(hn::And(quadrant, one), one));
    const V sine_sign =
        hn::BitCast(d, hn::ShiftLeft<30>(hn::And(quadrant, two)));
    const V cosine_sign =
        hn::BitCast(d, hn::ShiftLeft<30>(hn::And(hn::Add(quadrant, one), two)));
    sine = hn::Xor(hn::IfThenElse(swap, c, s), sine_sign);
    cosine = hn::Xor(hn::IfThenElse(swap, s, c), cosine_sign);
  }
}

// out_i[k] = sum_j matrix(i, j) in_j[k] for one momentum, kOut at a time.
template <int kOut, class D, class T = hn::TFromD<D>>
HWY_INLINE void MixSome(D d, const T* HWY_RESTRICT matrix, int64_t out_stride,
                        int64_t in_stride, const T* HWY_RESTRICT in,
                        int64_t in_count, int64_t in_step, T* HWY_RESTRICT out,
                        int64_t out_step) {
  hn::Vec<D> sum[kOut];
  for (int i = 0; i < kOut; ++i) sum[i] = hn::Zero(d);
  for (int64_t j = 0; j < in_count; ++j) {
    const auto value = hn::Load(d, in + j * in_step);
    for (int i = 0; i < kOut; ++i) {
      sum[i] = hn::MulAdd(
          value, hn::Set(d, matrix[i * out_stride + j * in_stride]), sum[i]);
    }
  }
  for (int i = 0; i < kOut; ++i) hn::Store(sum[i], d, out + i * out_step);
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void Mix(D d, const T* HWY_RESTRICT matrix, int64_t out_stride,
                    int64_t in_stride, const T* HWY_RESTRICT in,
                    int64_t in_count, int64_t in_step, T* HWY_RESTRICT out,
                    int64_t out_count, int64_t out_step) {
  int64_t i = 0;
  for (; i + 3 <= out_count; i += 3) {
    MixSome<3>(d, matrix + i * out_stride, out_stride, in_stride, in, in_count,
               in_step, out + i * out_step, out_step);
  }
  for (; i < out_count; ++i) {
    MixSome<1>(d, matrix + i * out_stride, out_stride, in_stride, in, in_count,
               in_step, out + i * out_step, out_step);
  }
}

enum class Sweep {
  kVelocity,  // v and div v
  kScore,     // also ds/dt
  kPullback,  // J^T u and the parameter gradient at u
};

template <class D, class T = hn::TFromD<D>>
class FieldEvaluator {
 public:
  FieldEvaluator(D d, const FieldTable<T>& table, Workspace<T>& space)
      : d_(d),
        table_(table),
        space_(space),
        lanes_(static_cast<int64_t>(hn::Lanes(d))),
        l0_(table.shape.lattice.l0),
        l1_(table.shape.lattice.l1),
        row_((l1_ + 1) * lanes_),
        field_(l0_ * row_),
        features_(table.shape.Features()),
        gates_(table.shape.gates) {}

  // v(phi, t) at half-step time m; adds -weight * div v to log_q [lanes].
  void Velocity(const T* phi, int64_t m, double weight, T* v, double* log_q) {
    Features<Sweep::kVelocity>(phi, m);
    Convolve(m, /*keep_spectra=*/false);
    Assemble<Sweep::kVelocity>(phi, nullptr, weight, v, nullptr, log_q);
  }

  // Also rate = -(J^T s + grad div v).
  void Score(const T* phi, const T* s, int64_t m, double weight, T* v, T* rate,
             double* log_q) {
    Features<Sweep::kScore>(phi, m);
    Convolve(m, /*keep_spectra=*/false);
    Assemble<Sweep::kScore>(phi, s, weight, v, rate, log_q);
    ConvolveTransposed(m);
    Gather<Sweep::kScore>(phi, rate);
  }

  // out = J^T u; adds the gradient of u . v in the parameters to the
  // workspace's sums (khat_gradient at time m, omega_, alpha_gradient).
  void Pullback(const T* phi, const T* u, int64_t m, T* out) {
    Features<Sweep::kPullback>(phi, m);
    Convolve(m, /*keep_spectra=*/true);
    Assemble<Sweep::kPullback>(phi, u, 0, nullptr, out, nullptr);
    ConvolveTransposed(m);
    KhatGradient(m);
    Gather<Sweep::kPullback>(phi, out);
  }

 private:
  using V = hn::Vec<D>;

  T* Spectrum(int64_t f) { return space_.spectra + f * field_; }
  T* Derivative(int64_t f) { return space_.derivatives + f * field_; }
  T* Gate(int64_t g) { return space_.gates + (g - 1) * field_; }
  T* GateSine(int64_t g) { return space_.gate_sines + (g - 1) * field_; }
  T* Convolved(int64_t g) { return space_.convolved + g * field_; }
  V At(const T* field, int64_t i) const { return hn::Load(d_, field + i); }

  // Features, their derivatives cos(omega_f phi), gates, the local part of the
  // divergence (and of its gradient), and the transform along axis 1.
  template <Sweep kSweep>
  void Features(const T* phi, int64_t m) {
    const T* origin = table_.kernel_origin.data() + m * gates_ * features_;
    for (int64_t x0 = 0; x0 < l0_; ++x0) {
      for (int64_t i = x0 * row_; i < x0 * row_ + l1_ * lanes_; i += lanes_) {
        const V field = At(phi, i);
        hn::Store(field, d_, Spectrum(0) + i);
        // p_g = sum_f K_gf(0) h_f', slope_g = sum_f K_gf(0) h_f''.
        V p[kGatesMax], slope[kGatesMax];
        p[0] = hn::Set(d_, origin[0]);
        slope[0] = hn::Zero(d_);
        for (int64_t g = 1; g < gates_; ++g) {
          p[g] = hn::Set(d_, origin[g * features_]);
          slope[g] = hn::Zero(d_);
        }
        for (int64_t f = 1; f < features_; ++f) {
          const V omega = hn::Set(d_, table_.omega[f - 1]);
          V sine, cosine;
          SinCos(d_, hn::Mul(omega, field), sine, cosine);
          hn::Store(sine, d_, Spectrum(f) + i);
          if constexpr (kSweep != Sweep::kVelocity) {
            hn::Store(cosine, d_, Derivative(f) + i);
          }
          if constexpr (kSweep == Sweep::kPullback) continue;
          const V first = hn::Mul(omega, cosine);
          const V second = hn::Mul(hn::Mul(omega, omega), sine);
          for (int64_t g = 0; g < gates_; ++g) {
            const V k = hn::Set(d_, origin[g * features_ + f]);
            p[g] = hn::MulAdd(k, first, p[g]);
            if constexpr (kSweep == Sweep::kScore) {
              slope[g] = hn::NegMulAdd(k, second, slope[g]);
            }
          }
        }
        // divergence: sum_g a_g p_g; its gradient: sum_g a_g' p_g + a_g p_g'.
        V local = p[0];
        V gradient = slope[0];
        for (int64_t g = 1; g < gates_; ++g) {
          const V alpha = hn::Set(d_, table_.alpha[g]);
          V sine, cosine;
          SinCos(d_, hn::Mul(alpha, field), sine, cosine);
          hn::Store(cosine, d_, Gate(g) + i);
          hn::Store(sine, d_, GateSine(g) + i);
          local = hn::MulAdd(cosine, p[g], local);
          if constexpr (kSweep == Sweep::kScore) {
            gradient = hn::MulAdd(cosine, slope[g], gradient);
            gradient = hn::NegMulAdd(hn::Mul(alpha, sine), p[g], gradient);
          }
        }
        if constexpr (kSweep != Sweep::kPullback) {
          hn::Store(local, d_, space_.divergence + i);
        }
        if constexpr (kSweep == Sweep::kScore) {
          hn::Store(gradient, d_, space_.divergence_gradient + i);
        }
      }
      for (int64_t f = 0; f < features_; ++f) {
        CasLine(d_, table_.cas1, Spectrum(f) + x0 * row_, lanes_);
      }
    }
  }

  const T* Khat(int64_t m, int64_t k) const {
    return table_.khat.data() +
           (m * table_.shape.orbits + table_.orbits.of_momentum[k]) * gates_ *
               features_;
  }

  // Copies column x1 of `count` fields to line, transforms it along axis 0.
  void LoadColumn(const T* fields, int64_t count, int64_t x1, T* line) {
    for (int64_t f = 0; f < count; ++f) {
      T* column = line + f * l0_ * lanes_;
      for (int64_t x0 = 0; x0 < l0_; ++x0) {
        hn::Store(At(fields + f * field_, x0 * row_ + x1 * lanes_), d_,
                  column + x0 * lanes_);
      }
      CasLine(d_, table_.cas0, column, lanes_);
    }
  }
  void StoreColumn(const T* line, int64_t count, int64_t x1, T* fields) {
    for (int64_t f = 0; f < count; ++f) {
      for (int64_t x0 = 0; x0 < l0_; ++x0) {
        hn::Store(At(line, (f * l0_ + x0) * lanes_), d_,
                  fields + f * field_ + x0 * row_ + x1 * lanes_);
      }
    }
  }

  // Convolved(g) = axis-0 transform of sum_f Khat_gf T(h_f).
  void Convolve(int64_t m, bool keep_spectra) {
    T* in = space_.line;
    T* out = space_.line + features_ * l0_ * lanes_;
    for (int64_t x1 = 0; x1 < l1_; ++x1) {
      LoadColumn(space_.spectra, features_, x1, in);
      if (keep_spectra) StoreColumn(in, features_, x1, space_.spectra);
      for (int64_t k0 = 0; k0 < l0_; ++k0) {
        Mix(d_, Khat(m, k0 * l1_ + x1), /*out_stride=*/features_,
            /*in_stride=*/1, in + k0 * lanes_, features_, l0_ * lanes_,
            out + k0 * lanes_, gates_, l0_ * lanes_);
      }
      for (int64_t g = 0; g < gates_; ++g) {
        CasLine(d_, table_.cas0, out + g * l0_ * lanes_, lanes_);
      }
      StoreColumn(out, gates_, x1, space_.convolved);
    }
  }

  // Spectra or, with kept ones, reflected(f) = axis-0 transform of
  // sum_g Khat_gf T(W_g), W in `weighted`, which becomes T(W).
  void ConvolveTransposed(int64_t m) {
    T* in = space_.line;
    T* out = space_.line + gates_ * l0_ * lanes_;
    for (int64_t x1 = 0; x1 < l1_; ++x1) {
      LoadColumn(space_.weighted, gates_, x1, in);
      StoreColumn(in, gates_, x1, space_.weighted);
      for (int64_t k0 = 0; k0 < l0_; ++k0) {
        Mix(d_, Khat(m, k0 * l1_ + x1), /*out_stride=*/1,
            /*in_stride=*/features_, in + k0 * lanes_, gates_, l0_ * lanes_,
            out + k0 * lanes_, features_, l0_ * lanes_);
      }
      for (int64_t f = 0; f < features_; ++f) {
        CasLine(d_, table_.cas0, out + f * l0_ * lanes_, lanes_);
      }
      StoreColumn(out, features_, x1, space_.reflected);
    }
  }

  // v = sum_g a_g q_g, div v += sum_g a_g' q_g; for a cotangent the local
  // terms of its pullback and W_g, transformed along axis 1.
  template <Sweep kSweep>
  void Assemble(const T* phi, const T* cotangent, double weight, T* v, T* rate,
                double* log_q) {
    for (int64_t x0 = 0; x0 < l0_; ++x0) {
      for (int64_t g = 0; g < gates_; ++g) {
        CasLine(d_, table_.cas1, Convolved(g) + x0 * row_, lanes_);
      }
      V divergence = hn::Zero(d_);
      for (int64_t i = x0 * row_; i < x0 * row_ + l1_ * lanes_; i += lanes_) {
        V velocity = At(Convolved(0), i);
        V u = hn::Zero(d_), pulled = hn::Zero(d_);
        if constexpr (kSweep != Sweep::kVelocity) {
          u = At(cotangent, i);
          hn::Store(u, d_, space_.weighted + i);
        }
        if constexpr (kSweep == Sweep::kScore) {
          pulled = At(space_.divergence_gradient, i);
        }
        if constexpr (kSweep != Sweep::kPullback) {
          divergence = hn::Add(divergence, At(space_.divergence, i));
        }
        for (int64_t g = 1; g < gates_; ++g) {
          const V alpha = hn::Set(d_, table_.alpha[g]);
          const V gate = At(Gate(g), i);
          const V sine = At(GateSine(g), i);
          const V slope = hn::Neg(hn::Mul(alpha, sine));  // a_g'
          const V q = At(Convolved(g), i);
          T* weighted = space_.weighted + g * field_ + i;
          if constexpr (kSweep != Sweep::kPullback) {
            velocity = hn::MulAdd(gate, q, velocity);
            divergence = hn::MulAdd(slope, q, divergence);
          }
          if constexpr (kSweep == Sweep::kScore) {
            // a_g' q s + a_g'' q, W_g = a_g s + a_g'.
            const V bend = hn::Mul(hn::Mul(alpha, alpha), gate);
            pulled = hn::MulAdd(hn::Sub(hn::Mul(slope, u), bend), q, pulled);
            hn::Store(hn::MulAdd(gate, u, slope), d_, weighted);
          }
          if constexpr (kSweep == Sweep::kPullback) {
            const V qu = hn::Mul(q, u);
            pulled = hn::MulAdd(slope, qu, pulled);
            hn::Store(hn::Mul(gate, u), d_, weighted);
            T* sum = space_.alpha_gradient + g * lanes_;
            hn::Store(
                hn::NegMulAdd(hn::Mul(At(phi, i), sine), qu, hn::Load(d_, sum)),
                d_, sum);
          }
        }
        if constexpr (kSweep != Sweep::kPullback) {
          hn::Store(velocity, d_, v + i);
        }
        if constexpr (kSweep != Sweep::kVelocity) {
          hn::Store(pulled, d_, rate + i);
        }
      }
      if constexpr (kSweep != Sweep::kPullback) {
        // One row in T, the sum over rows in double.
        HWY_ALIGN T row_sum[HWY_MAX_BYTES / sizeof(T)] = {};
        hn::Store(divergence, d_, row_sum);
        for (int64_t lane = 0; lane < lanes_; ++lane) {
          log_q[lane] -= weight * row_sum[lane];
        }
      }
      if constexpr (kSweep != Sweep::kVelocity) {
        for (int64_t g = 0; g < gates_; ++g) {
          CasLine(d_, table_.cas1, space_.weighted + g * field_ + x0 * row_,
                  lanes_);
        }
      }
    }
  }

  // rate (+/-)= sum_f h_f' y_f, y_f the back-transformed reflected(f).
  template <Sweep kSweep>
  void Gather(const T* phi, T* rate) {
    for (int64_t x0 = 0; x0 < l0_; ++x0) {
      for (int64_t f = 0; f < features_; ++f) {
        CasLine(d_, table_.cas1, space_.reflected + f * field_ + x0 * row_,
                lanes_);
      }
      for (int64_t i = x0 * row_; i < x0 * row_ + l1_ * lanes_; i += lanes_) {
        V pulled = hn::Add(At(rate, i), At(space_.reflected, i));
        const V field = At(phi, i);
        for (int64_t f = 1; f < features_; ++f) {
          const V y = hn::Mul(At(Derivative(f), i),
                              At(space_.reflected + f * field_, i));
          pulled = hn::MulAdd(hn::Set(d_, table_.omega[f - 1]), y, pulled);
          if constexpr (kSweep == Sweep::kPullback) {
            T* sum = space_.omega_gradient + (f - 1) * lanes_;
            hn::Store(hn::MulAdd(field, y, hn::Load(d_, sum)), d_, sum);
          }
        }
        if constexpr (kSweep == Sweep::kScore) pulled = hn::Neg(pulled);
        hn::Store(pulled, d_, rate + i);
      }
    }
  }

  // khat_gradient[m][orbit][g][f] += (1/V) sum_{k in orbit} T(W_g) T(h_f),
  // summed over lanes.
  void KhatGradient(int64_t m) {
    const double inverse_volume = 1.0 / (l0_ * l1_);
    for (int64_t orbit = 0; orbit < table_.shape.orbits; ++orbit) {
      double* out = space_.khat_gradient +
                    (m * table_.shape.orbits + orbit) * gates_ * features_;
      const std::vector<int32_t>& members = table_.members[orbit];
      for (int64_t g = 0; g < gates_; ++g) {
        int64_t f = 0;
        for (; f + 4 <= features_; f += 4) {
          OrbitSum<4>(members, g, f, inverse_volume, out + g * features_ + f);
        }
        for (; f < features_; ++f) {
          OrbitSum<1>(members, g, f, inverse_volume, out + g * features_ + f);
        }
      }
    }
  }
  template <int kCount>
  void OrbitSum(const std::vector<int32_t>& members, int64_t g, int64_t f,
                double scale, double* out) {
    V sum[kCount];
    for (int i = 0; i < kCount; ++i) sum[i] = hn::Zero(d_);
    for (const int32_t k : members) {
      const int64_t at = k / l1_ * row_ + k % l1_ * lanes_;
      const V w = At(space_.weighted + g * field_, at);
      for (int i = 0; i < kCount; ++i) {
        sum[i] = hn::MulAdd(w, At(Spectrum(f + i), at), sum[i]);
      }
    }
    for (int i = 0; i < kCount; ++i) {
      out[i] += scale * hn::GetLane(hn::SumOfLanes(d_, sum[i]));
    }
  }

  const D d_;
  const FieldTable<T>& table_;
  Workspace<T>& space_;
  const int64_t lanes_, l0_, l1_, row_, field_, features_, gates_;
};

}  // namespace HWY_NAMESPACE
}  // namespace latticed
HWY_AFTER_NAMESPACE();

#endif  // toggle
