// What studies read off the curves of trainings.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/study/ensembles.h"
#include "trainer/study/study.h"

namespace latticed {

// Rows of table "curve" of the flow's training here, with L and flow.
absl::StatusOr<Rows> CurvePiece(const StudyRun& run, FlowKind kind, int64_t l);

// Largest value of a column; NaN for no points.
double Best(const std::vector<Row>& curve, const std::string& column);

// When a column first reaches a target.
struct Reach {
  enum Limit {
    kNone,   // between two points: linear in the logarithms of the costs
    kUpper,  // at the first point or before: the costs are the first point's
    kLower,  // nowhere on this curve: the costs are NaN
  } limit = kLower;
  double core_seconds = NAN, steps = NAN, draws = NAN;
};
// Points in order of time; costs that they lack are NaN.
Reach ReachOf(const std::vector<Row>& curve, const std::string& column,
              double target);
std::vector<Column> ReachColumns();
void SetReach(const Reach& reach, Row* row);

// y = intercept + slope x by least squares; the error of the slope is from the
// scatter of the points, infinite for two.
struct LineFit {
  double intercept = 0, slope = 0, slope_error = 0;
};
// Requires two points with different x.
LineFit FitLine(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace latticed
