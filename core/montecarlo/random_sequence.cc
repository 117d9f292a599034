#include "core/montecarlo/random_sequence.h"

#include "core/random/box_muller.h"

namespace latticed {

void RandomSequence::Refill() {
  RandomWords(stream_, index_, Purpose::kChainUpdate, block_,
              absl::MakeSpan(words_));
  next_ = 0;
  block_ += words_.size() / 4;
  if (block_ == uint32_t{1} << 24) {
    block_ = 0;
    ++index_;
  }
}

void RandomSequence::Normals(absl::Span<double> out) {
  for (size_t i = 0; i < out.size(); i += 2) {
    const double r = BoxMullerRadius(Word());
    const SineCosine a = BoxMullerAngle(Word());
    out[i] = r * a.cosine;
    if (i + 1 < out.size()) out[i + 1] = r * a.sine;
  }
}

}  // namespace latticed
