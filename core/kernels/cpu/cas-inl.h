// The unnormalised cas transform of n vectors,
//   X_k = sum_j x_j (cos + sin)(2 pi j k / n),
// twice folded: the parts of x even and odd under j -> n - j need the cosine
// and the sine only, and even and odd j are related by k -> n/2 - k, which
// leaves a quarter of the dense product's n^2 multiplications. Every lane of a
// vector is a configuration of its own.

#if defined(LATTICED_CAS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATTICED_CAS_INL_H_
#undef LATTICED_CAS_INL_H_
#else
#define LATTICED_CAS_INL_H_
#endif

#include "core/kernels/cpu/tables.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace latticed {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Outputs k0 .. k0 + kBlock - 1 and their three images, even n.
template <int kBlock, class D, class T = hn::TFromD<D>>
HWY_INLINE void CasBlock(D d, const CasTable<T>& table, int n, int k0,
                         const T* HWY_RESTRICT even, const T* HWY_RESTRICT odd,
                         T* HWY_RESTRICT x, size_t stride) {
  const size_t lanes = hn::Lanes(d);
  const int h = n / 2;
  const int width = h / 2 + 1;
  using V = hn::Vec<D>;
  V ce[kBlock], co[kBlock], se[kBlock], so[kBlock];
  for (int b = 0; b < kBlock; ++b) {
    ce[b] = hn::Load(d, even);
    co[b] = se[b] = so[b] = hn::Zero(d);
  }
  const T* cosine = table.cosine.data() + k0;
  const T* sine = table.sine.data() + k0;
  for (int j = 1; j < h; j += 2) {
    const V e = hn::Load(d, even + j * lanes);
    const V o = hn::Load(d, odd + j * lanes);
    for (int b = 0; b < kBlock; ++b) {
      co[b] = hn::MulAdd(e, hn::Set(d, cosine[j * width + b]), co[b]);
      so[b] = hn::MulAdd(o, hn::Set(d, sine[j * width + b]), so[b]);
    }
  }
  for (int j = 2; j < h; j += 2) {
    const V e = hn::Load(d, even + j * lanes);
    const V o = hn::Load(d, odd + j * lanes);
    for (int b = 0; b < kBlock; ++b) {
      ce[b] = hn::MulAdd(e, hn::Set(d, cosine[j * width + b]), ce[b]);
      se[b] = hn::MulAdd(o, hn::Set(d, sine[j * width + b]), se[b]);
    }
  }
  const V e = hn::Load(d, even + h * lanes);
  for (int b = 0; b < kBlock; ++b) {
    V& c = h % 2 ? co[b] : ce[b];
    c = hn::MulAdd(e, hn::Set(d, cosine[h * width + b]), c);
  }
  for (int b = 0; b < kBlock; ++b) {
    const int k = k0 + b;
    const V c = hn::Add(ce[b], co[b]);
    const V s = hn::Add(se[b], so[b]);
    hn::Store(hn::Add(c, s), d, x + k * stride);
    if (k > 0) hn::Store(hn::Sub(c, s), d, x + (n - k) * stride);
    if (2 * k == h) continue;
    const V c_image = hn::Sub(ce[b], co[b]);
    const V s_image = hn::Sub(so[b], se[b]);
    hn::Store(hn::Add(c_image, s_image), d, x + (h - k) * stride);
    if (k > 0) {
      hn::Store(hn::Sub(c_image, s_image), d, x + (h + k) * stride);
    }
  }
}

template <int kN, class D, class T = hn::TFromD<D>>
HWY_NOINLINE void CasLineEven(D d, const CasTable<T>& table, T* HWY_RESTRICT x,
                              size_t stride) {
  const size_t lanes = hn::Lanes(d);
  const int n = kN > 0 ? kN : table.n;
  const int h = n / 2;
  constexpr int kSize = (kN > 0 ? kN / 2 : kExtentMax / 2) + 1;
  HWY_ALIGN T even[kSize * HWY_MAX_BYTES / sizeof(T)];
  HWY_ALIGN T odd[kSize * HWY_MAX_BYTES / sizeof(T)];
  hn::Store(hn::Load(d, x), d, even);
  hn::Store(hn::Load(d, x + h * stride), d, even + h * lanes);
  for (int j = 1; j < h; ++j) {
    const auto a = hn::Load(d, x + j * stride);
    const auto b = hn::Load(d, x + (n - j) * stride);
    hn::Store(hn::Add(a, b), d, even + j * lanes);
    hn::Store(hn::Sub(a, b), d, odd + j * lanes);
  }
  const int outputs = h / 2 + 1;
  int k = 0;
  for (; k + 3 <= outputs; k += 3) {
    CasBlock<3>(d, table, n, k, even, odd, x, stride);
  }
  if (outputs - k == 2) CasBlock<2>(d, table, n, k, even, odd, x, stride);
  if (outputs - k == 1) CasBlock<1>(d, table, n, k, even, odd, x, stride);
}

// Odd n: one fold.
template <class D, class T = hn::TFromD<D>>
HWY_NOINLINE void CasLineOdd(D d, const CasTable<T>& table, T* HWY_RESTRICT x,
                             size_t stride) {
  const size_t lanes = hn::Lanes(d);
  const int n = table.n;
  const int h = n / 2;
  HWY_ALIGN T even[(kExtentMax / 2 + 1) * HWY_MAX_BYTES / sizeof(T)];
  HWY_ALIGN T odd[(kExtentMax / 2 + 1) * HWY_MAX_BYTES / sizeof(T)];
  const auto first = hn::Load(d, x);
  for (int j = 1; j <= h; ++j) {
    const auto a = hn::Load(d, x + j * stride);
    const auto b = hn::Load(d, x + (n - j) * stride);
    hn::Store(hn::Add(a, b), d, even + j * lanes);
    hn::Store(hn::Sub(a, b), d, odd + j * lanes);
  }
  for (int k = 0; k <= h; ++k) {
    auto c = first;
    auto s = hn::Zero(d);
    for (int j = 1; j <= h; ++j) {
      c = hn::MulAdd(hn::Load(d, even + j * lanes),
                     hn::Set(d, table.cosine[j * (h + 1) + k]), c);
      s = hn::MulAdd(hn::Load(d, odd + j * lanes),
                     hn::Set(d, table.sine[j * (h + 1) + k]), s);
    }
    hn::Store(hn::Add(c, s), d, x + k * stride);
    if (k > 0) hn::Store(hn::Sub(c, s), d, x + (n - k) * stride);
  }
}

// In place; `stride` elements from one vector to the next. The sizes of the
// standard ensembles are unrolled by the compiler.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void CasLine(D d, const CasTable<T>& table, T* HWY_RESTRICT x,
                        size_t stride) {
  if constexpr (sizeof(T) == 4) {
    switch (table.n) {
      case 6:
        return CasLineEven<6>(d, table, x, stride);
      case 8:
        return CasLineEven<8>(d, table, x, stride);
      case 12:
        return CasLineEven<12>(d, table, x, stride);
      case 14:
        return CasLineEven<14>(d, table, x, stride);
      case 16:
        return CasLineEven<16>(d, table, x, stride);
      case 20:
        return CasLineEven<20>(d, table, x, stride);
      case 32:
        return CasLineEven<32>(d, table, x, stride);
      case 64:
        return CasLineEven<64>(d, table, x, stride);
    }
  }
  if (table.n % 2) return CasLineOdd(d, table, x, stride);
  CasLineEven<0>(d, table, x, stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace latticed
HWY_AFTER_NAMESPACE();

#endif  // toggle
