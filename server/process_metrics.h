// The standard process_* metrics, which prometheus-cpp does not have, from
// /proc, and the number of log lines.
#pragma once

#include <vector>

#include "prometheus/metric_family.h"

namespace latticed {

// Appends nothing for what cannot be read.
void AppendProcessMetrics(std::vector<prometheus::MetricFamily>* families);

}  // namespace latticed
