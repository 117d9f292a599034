#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "core/random/box_muller.h"
#include "core/random/stream.h"

namespace latticed {
namespace {

// Blocks computed together, word by word: long enough to vectorise, short
// enough to stay in registers and first-level cache.
constexpr size_t kWidth = 8;

struct Words {
  uint32_t w[4][kWidth];
};

// philox.h over kWidth consecutive counters.
[[gnu::always_inline]] inline void PhiloxMany(
    const std::array<uint32_t, 4>& counter, std::array<uint32_t, 2> key,
    Words* out) {
  auto& w = out->w;
  for (size_t i = 0; i < kWidth; ++i) {
    w[0][i] = counter[0] + static_cast<uint32_t>(i);
    w[1][i] = counter[1];
    w[2][i] = counter[2];
    w[3][i] = counter[3];
  }
  for (int round = 0; round < 10; ++round) {
    for (size_t i = 0; i < kWidth; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53} * w[0][i];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * w[2][i];
      const uint32_t w0 = static_cast<uint32_t>(p1 >> 32) ^ w[1][i] ^ key[0];
      const uint32_t w2 = static_cast<uint32_t>(p0 >> 32) ^ w[3][i] ^ key[1];
      w[0][i] = w0;
      w[1][i] = static_cast<uint32_t>(p1);
      w[2][i] = w2;
      w[3][i] = static_cast<uint32_t>(p0);
    }
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
}

// 4 kWidth deviates of blocks counter[0], counter[0] + 1, ...
[[gnu::always_inline]] inline void NormalsOfBlocks(
    const std::array<uint32_t, 4>& counter, const std::array<uint32_t, 2>& key,
    float* out) {
  Words words;
  PhiloxMany(counter, key, &words);
  float normal[4][kWidth];
  for (int pair = 0; pair < 4; pair += 2) {
    for (size_t i = 0; i < kWidth; ++i) {
      const double r = BoxMullerRadius(words.w[pair][i]);
      const SineCosine a = BoxMullerAngle(words.w[pair + 1][i]);
      normal[pair][i] = static_cast<float>(r * a.cosine);
      normal[pair + 1][i] = static_cast<float>(r * a.sine);
    }
  }
  for (size_t i = 0; i < kWidth; ++i) {
    for (size_t j = 0; j < 4; ++j) out[4 * i + j] = normal[j][i];
  }
}

[[gnu::always_inline]] inline void WordsOfBlocks(
    const std::array<uint32_t, 4>& counter, const std::array<uint32_t, 2>& key,
    uint32_t* out) {
  Words words;
  PhiloxMany(counter, key, &words);
  for (size_t i = 0; i < kWidth; ++i) {
    for (size_t j = 0; j < 4; ++j) out[4 * i + j] = words.w[j][i];
  }
}

// The same code compiled twice, for any x86 and for what nearly all are.
struct Kernels {
  void (*normals)(const std::array<uint32_t, 4>&,
                  const std::array<uint32_t, 2>&, float*);
  void (*words)(const std::array<uint32_t, 4>&, const std::array<uint32_t, 2>&,
                uint32_t*);
};

void PortableNormals(const std::array<uint32_t, 4>& counter,
                     const std::array<uint32_t, 2>& key, float* out) {
  NormalsOfBlocks(counter, key, out);
}
void PortableWords(const std::array<uint32_t, 4>& counter,
                   const std::array<uint32_t, 2>& key, uint32_t* out) {
  WordsOfBlocks(counter, key, out);
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] void Avx2Normals(const std::array<uint32_t, 4>& counter,
                                         const std::array<uint32_t, 2>& key,
                                         float* out) {
  NormalsOfBlocks(counter, key, out);
}
[[gnu::target("avx2")]] void Avx2Words(const std::array<uint32_t, 4>& counter,
                                       const std::array<uint32_t, 2>& key,
                                       uint32_t* out) {
  WordsOfBlocks(counter, key, out);
}
#endif

const Kernels& Best() {
  static const Kernels kernels = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return Kernels{Avx2Normals, Avx2Words};
#endif
    return Kernels{PortableNormals, PortableWords};
  }();
  return kernels;
}

// Fills `out` kWidth blocks at a time; what is computed beyond its end is
// dropped.
template <typename T>
void Fill(const StreamId& stream, uint64_t index, Purpose purpose,
          uint32_t first_block,
          void (*kernel)(const std::array<uint32_t, 4>&,
                         const std::array<uint32_t, 2>&, T*),
          absl::Span<T> out) {
  constexpr size_t kTogether = 4 * kWidth;
  if (first_block + (out.size() + 3) / 4 > size_t{1} << 24) {
    std::fprintf(stderr, "random block %zu of one sample; there are 2^24\n",
                 first_block + (out.size() + 3) / 4);
    std::abort();
  }
  std::array<uint32_t, 4> counter = {
      static_cast<uint32_t>(purpose) << 24 | first_block,
      static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
      stream.high};
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(stream.low),
                                       static_cast<uint32_t>(stream.low >> 32)};
  size_t done = 0;
  for (; done + kTogether <= out.size(); done += kTogether) {
    kernel(counter, key, out.data() + done);
    counter[0] += kWidth;
  }
  if (done < out.size()) {
    std::array<T, kTogether> rest;
    kernel(counter, key, rest.data());
    std::copy_n(rest.begin(), out.size() - done, out.begin() + done);
  }
}

}  // namespace

void RandomWords(const StreamId& stream, uint64_t index, Purpose purpose,
                 uint32_t first_block, absl::Span<uint32_t> out) {
  Fill(stream, index, purpose, first_block, Best().words, out);
}

void Normals(const StreamId& stream, uint64_t index, Purpose purpose,
             absl::Span<float> out) {
  Fill(stream, index, purpose, /*first_block=*/0, Best().normals, out);
}

}  // namespace latticed
