#include "trainer/window.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/wire/digest.h"

namespace latticed {
namespace {

// Figures of a process, in a row of the table that all get.
constexpr size_t kRow = 10;

// Bytes 0..5 of the SHA-256: exact in a double.
double DigestNumber(absl::string_view bytes) {
  const std::string digest = Sha256(bytes);
  double number = 0;
  for (int i = 0; i < 6; ++i) {
    number = 256 * number + static_cast<uint8_t>(digest[i]);
  }
  return number;
}

}  // namespace

void Window::Add(double log_w) {
  weights_.Add(log_w);
  if (!std::isfinite(log_w)) return;
  if (draws_ == 0) first_ = log_w;
  sum_ += log_w - first_;
  squares_ += (log_w - first_) * (log_w - first_);
  ++draws_;
}

double Window::LogMeanWeight() const {
  return weights_.log_w_max() +
         std::log(weights_.sum_w() / static_cast<double>(weights_.draws()));
}

double Window::Mean() const {
  return first_ + sum_ / std::max<double>(1, static_cast<double>(draws_));
}

double Window::Variance() const {
  const double n = static_cast<double>(draws_);
  return n < 2 ? 0 : (squares_ - sum_ * sum_ / n) / (n - 1);
}

absl::StatusOr<Window> Window::OfAll(ProcessGroup* group,
                                     absl::string_view parameters) const {
  if (group->alone()) return *this;
  std::vector<double> table(kRow * group->size());
  double* own = table.data() + kRow * group->rank();
  const std::array<double, kRow> row = {
      DigestNumber(parameters),
      static_cast<double>(draws_),
      first_,
      sum_,
      squares_,
      static_cast<double>(weights_.draws()),
      static_cast<double>(weights_.non_finite()),
      weights_.log_w_max(),
      weights_.sum_w(),
      weights_.sum_w2()};
  std::copy(row.begin(), row.end(), own);
  if (absl::Status summed = group->SumUp(absl::MakeSpan(table)); !summed.ok()) {
    return summed;
  }
  Window all;
  for (int rank = 0; rank < group->size(); ++rank) {
    const double* from = table.data() + kRow * rank;
    if (from[0] != table[0]) {
      return absl::DataLossError(absl::StrCat(
          "process ", rank,
          " has other parameters than process 0 after the same steps: the "
          "machines do not compute alike, or one has a fault; go on from a "
          "state saved before this report, without that machine"));
    }
    const auto n = static_cast<uint64_t>(from[1]);
    if (n > 0) {
      if (all.draws_ == 0) all.first_ = from[2];
      // sum (x - f)^2 with x - f = (x - f') + (f' - f).
      const double shift = from[2] - all.first_;
      all.squares_ += from[4] + shift * (2 * from[3] + from[1] * shift);
      all.sum_ += from[3] + from[1] * shift;
      all.draws_ += n;
    }
    all.weights_.Merge(
        WeightSums::FromParts({.draws = static_cast<uint64_t>(from[5]),
                               .non_finite = static_cast<uint64_t>(from[6]),
                               .log_w_max = from[7],
                               .sum_w = from[8],
                               .sum_w2 = from[9]}));
  }
  return all;
}

}  // namespace latticed
