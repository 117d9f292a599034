#include "trainer/study/curves.h"

#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"
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

Reach ReachOf(const std::vector<Row>& curve, const std::string& column,
              double target) {
  const auto point = absl::c_find_if(
      curve, [&](const Row& row) { return row.Number(column) >= target; });
  if (point == curve.end()) return {};
  const bool first = point == curve.begin();
  const Row& before = first ? *point : *std::prev(point);
  const double rise = point->Number(column) - before.Number(column);
  const double part = first ? 0 : (target - before.Number(column)) / rise;
  const auto between = [&](const char* cost) {
    const double start = before.Number(cost);
    return start * std::pow(point->Number(cost) / start, part);
  };
  return {first ? Reach::kUpper : Reach::kNone, between("core_seconds"),
          between("step"), between("draws")};
}

std::vector<Column> ReachColumns() {
  return {{"limit",
           "upper: there at the first point of the curve, whose costs follow; "
           "lower: not reached, so that the whole training is a lower limit"},
          {"core_seconds", "processor time of training until then"},
          {"steps", "of the optimizer until then"},
          {"draws", "configurations drawn until then"}};
}

void SetReach(const Reach& reach, Row* row) {
  row->Set("limit", reach.limit == Reach::kUpper   ? "upper"
                    : reach.limit == Reach::kLower ? "lower"
                                                   : "")
      .Set("core_seconds", reach.core_seconds)
      .Set("steps", reach.steps)
      .Set("draws", reach.draws);
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
