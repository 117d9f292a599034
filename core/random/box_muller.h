// Box-Muller in double precision from plain arithmetic alone: no library calls
// and no branches, so that loops over it vectorise, and no fused multiply-adds
// (see CMakeLists.txt), so that every CPU computes the same bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace latticed {

// sqrt(-2 log((w + 1) / 2^32)) to within 3e-16 relative.
[[gnu::always_inline]] inline double BoxMullerRadius(uint32_t w) {
  // n = w + 1 in [1, 2^32] as a double: 2^52 + n has n in its low bits.
  const double n =
      std::bit_cast<double>(uint64_t{0x4330000000000000} | (uint64_t{w} + 1)) -
      0x1p52;
  // n = 2^e m with m in [1/sqrt 2, sqrt 2): adding the offset carries into the
  // exponent exactly when the mantissa is sqrt 2 or more.
  const uint64_t bits = std::bit_cast<uint64_t>(n);
  const uint64_t shifted =
      bits + (uint64_t{0x3FF0000000000000} - uint64_t{0x3FE6A09E667F3BCD});
  const uint64_t biased = shifted >> 52;  // e + 1023
  const double m = std::bit_cast<double>((shifted & 0x000FFFFFFFFFFFFF) +
                                         0x3FE6A09E667F3BCD);
  // e - 32 <= 0, by the same trick as n.
  const double e =
      std::bit_cast<double>(uint64_t{0x4330000000000000} | biased) -
      (0x1p52 + 1023 + 32);
  // log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716; the series is
  // cut where its terms fall below 1e-17.
  const double s = (m - 1) / (m + 1);
  const double t = s * s;
  double p = 2.0 / 21;
  p = p * t + 2.0 / 19;
  p = p * t + 2.0 / 17;
  p = p * t + 2.0 / 15;
  p = p * t + 2.0 / 13;
  p = p * t + 2.0 / 11;
  p = p * t + 2.0 / 9;
  p = p * t + 2.0 / 7;
  p = p * t + 2.0 / 5;
  p = p * t + 2.0 / 3;
  const double log_m = 2 * s + s * t * p;
  // log 2 in two parts: e times the first is exact.
  const double log_u =
      e * 0x1.62e42fee00000p-1 + (e * 0x1.a39ef35793c76p-33 + log_m);
  return std::sqrt(-2 * log_u);
}

struct SineCosine {
  double sine = 0;
  double cosine = 0;
};

// Of 2 pi w / 2^32, to within 3e-16.
[[gnu::always_inline]] inline SineCosine BoxMullerAngle(uint32_t w) {
  // w 2^-30 = quarter turns: the nearest whole number q and the rest in
  // [-1/2, 1/2), exact.
  const uint32_t rounded = w + 0x20000000u;
  const uint32_t q = rounded >> 30;
  const int32_t rest = static_cast<int32_t>(rounded & 0x3FFFFFFFu) - 0x20000000;
  const double x = rest * 0x1p-30 * 1.5707963267948966;
  const double t = x * x;
  // Taylor series on |x| <= pi/4.
  double s = -1.0 / 1307674368000;
  s = s * t + 1.0 / 6227020800;
  s = s * t - 1.0 / 39916800;
  s = s * t + 1.0 / 362880;
  s = s * t - 1.0 / 5040;
  s = s * t + 1.0 / 120;
  s = s * t - 1.0 / 6;
  s = x + x * t * s;
  double c = 1.0 / 20922789888000;
  c = c * t - 1.0 / 87178291200;
  c = c * t + 1.0 / 479001600;
  c = c * t - 1.0 / 3628800;
  c = c * t + 1.0 / 40320;
  c = c * t - 1.0 / 720;
  c = c * t + 1.0 / 24;
  c = 1.0 - 0.5 * t + t * t * c;
  // Turn by q quarters: swap when q is odd, then the signs.
  const bool swap = (q & 1) != 0;
  const double sine = swap ? c : s;
  const double cosine = swap ? s : c;
  return {q >= 2 ? -sine : sine, q == 1 || q == 2 ? -cosine : cosine};
}

}  // namespace latticed
