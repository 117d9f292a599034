#include "trainer/study/curves.h"

#include <cmath>
#include <limits>
#include <utility>

#include "trainer/study/study_training.h"

namespace latticed {

absl::StatusOr<Rows> CurvePiece(const StudyRun& run, FlowKind kind, int64_t l) {
  // Always trained here, for its curve.
  auto flow = TrainedFlow(run, StudyModel(kind, l), StudySpec(kind, l));
  if (!flow.ok()) return flow.status();
  for (Row& row : flow->curve) {
    row.Set("L", static_cast<double>(l)).Set("flow", FlowName(kind));
  }
  return Rows{{"curve", std::move(flow->curve)}};
}

double Best(const std::vector<Row>& curve, const std::string& column) {
  double best = std::numeric_limits<double>::quiet_NaN();
  for (const Row& row : curve) best = std::fmax(best, row.Number(column));
  return best;
}

double TimeTo(const std::vector<Row>& curve, const std::string& column,
              double target) {
  for (size_t i = 0; i < curve.size(); ++i) {
    const double value = curve[i].Number(column);
    if (!(value >= target)) continue;
    if (i == 0) break;
    const double time = curve[i].Number("core_seconds");
    const double before = curve[i - 1].Number(column);
    const double time_before = curve[i - 1].Number("core_seconds");
    const double part = (target - before) / (value - before);
    return time_before * std::pow(time / time_before, part);
  }
  return std::numeric_limits<double>::quiet_NaN();
}

LineFit FitLine(const std::vector<double>& x, const std::vector<double>& y) {
  const double n = static_cast<double>(x.size());
  double mean_x = 0, mean_y = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    mean_x += x[i] / n;
    mean_y += y[i] / n;
  }
  double xx = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
  }
  LineFit fit;
  fit.slope = xy / xx;
  fit.intercept = mean_y - fit.slope * mean_x;
  double rest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double r = y[i] - fit.intercept - fit.slope * x[i];
    rest += r * r;
  }
  fit.slope_error = n > 2 ? std::sqrt(rest / (n - 2) / xx)
                          : std::numeric_limits<double>::infinity();
  return fit;
}

}  // namespace latticed
