#include "server/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/log.h"

namespace latticed {
namespace {

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

double Number(absl::string_view text) {
  double value = 0;
  return absl::SimpleAtod(text, &value) ? value : 0;
}

// Seconds since the epoch at which the machine started.
double BootTime() {
  for (absl::string_view line : absl::StrSplit(ReadAll("/proc/stat"), '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() == 2 && words[0] == "btime") return Number(words[1]);
  }
  return 0;
}

double OpenDescriptors() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  double count = -1;  // the one that reads the directory
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') ++count;
  }
  closedir(directory);
  return count;
}

}  // namespace

void AppendProcessMetrics(std::vector<prometheus::MetricFamily>* families) {
  const auto add = [families](const char* name, const char* help,
                              prometheus::MetricType type, double value) {
    prometheus::MetricFamily family;
    family.name = name;
    family.help = help;
    family.type = type;
    family.metric.resize(1);
    family.metric[0].gauge.value = value;
    family.metric[0].counter.value = value;
    families->push_back(std::move(family));
  };
  using Type = prometheus::MetricType;
  prometheus::MetricFamily logged;
  logged.name = "latticed_log_messages_total";
  logged.help = "Log lines.";
  logged.type = Type::Counter;
  for (const auto& [level, name] : {std::pair(LogLevel::kInfo, "info"),
                                    {LogLevel::kWarning, "warning"},
                                    {LogLevel::kError, "error"}}) {
    prometheus::ClientMetric metric;
    metric.label.push_back({"level", name});
    metric.counter.value = static_cast<double>(LogLines(level));
    logged.metric.push_back(std::move(metric));
  }
  families->push_back(std::move(logged));
  const std::string stat = ReadAll("/proc/self/stat");
  // The second field is the program's name in parentheses, blanks and all.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return;
  const std::vector<std::string> fields =
      absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  if (fields.size() < 22) return;
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const double page = static_cast<double>(sysconf(_SC_PAGESIZE));
  add("process_cpu_seconds_total", "User and system time.", Type::Counter,
      (Number(fields[11]) + Number(fields[12])) / ticks);
  add("process_threads", "Threads.", Type::Gauge, Number(fields[17]));
  add("process_start_time_seconds", "Since the epoch.", Type::Gauge,
      BootTime() + Number(fields[19]) / ticks);
  add("process_virtual_memory_bytes", "Virtual memory.", Type::Gauge,
      Number(fields[20]));
  add("process_resident_memory_bytes", "Resident memory.", Type::Gauge,
      Number(fields[21]) * page);
  add("process_open_fds", "Open file descriptors.", Type::Gauge,
      OpenDescriptors());
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    add("process_max_fds", "Most file descriptors.", Type::Gauge,
        static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace latticed
