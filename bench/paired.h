// Paired timings: two ways of doing one thing in turn, A B A B ..., so that a
// machine whose speed drifts still gives a ratio.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace latticed::bench {

inline double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Paired {
  double fast_seconds = 0;  // medians
  double baseline_seconds = 0;
  double ratio = 0;  // median of baseline / fast, pair by pair
  double ratio_min = 0, ratio_max = 0;
};

// One warm-up of each, then `rounds` pairs.
inline Paired Compare(const std::function<void()>& fast,
                      const std::function<void()>& baseline, int rounds) {
  fast();
  baseline();
  std::vector<double> a, b, ratios;
  for (int i = 0; i < rounds; ++i) {
    a.push_back(Seconds(fast));
    b.push_back(Seconds(baseline));
    ratios.push_back(b.back() / a.back());
  }
  return {Median(a), Median(b), Median(ratios),
          *std::min_element(ratios.begin(), ratios.end()),
          *std::max_element(ratios.begin(), ratios.end())};
}

// "name  fast/s  baseline/s  ratio (min-max)" for `items` a call.
inline void Print(const std::string& name, double items, const Paired& p) {
  std::printf("%-34s %12.1f/s %12.1f/s   ratio %5.2f (%.2f-%.2f)\n",
              name.c_str(), items / p.fast_seconds, items / p.baseline_seconds,
              p.ratio, p.ratio_min, p.ratio_max);
  std::fflush(stdout);
}

}  // namespace latticed::bench
