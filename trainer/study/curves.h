// What studies read off the curves of trainings.
#pragma once

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

// core_seconds when the column first reaches `target`, linear in log time
// between two points, points in order of time; NaN if it never does, or has
// before the first point.
double TimeTo(const std::vector<Row>& curve, const std::string& column,
              double target);

// y = intercept + slope x by least squares; the error of the slope is from the
// scatter of the points, infinite for two.
struct LineFit {
  double intercept = 0, slope = 0, slope_error = 0;
};
// Requires two points with different x.
LineFit FitLine(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace latticed
