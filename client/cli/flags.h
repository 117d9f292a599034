// Command line flags of one command: --name value, --name=value, --switch.
// Dashes and underscores in names are the same.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace latticed {

// Targets must outlive the set.
class FlagSet {
 public:
  // `value` names the value in the help text, e.g. "FILE".
  void Add(std::string name, std::string value, std::string help,
           std::string* target);
  void Add(std::string name, std::string value, std::string help,
           uint64_t* target);
  void Add(std::string name, std::string value, std::string help,
           std::optional<uint64_t>* target);
  // Seconds.
  void Add(std::string name, std::string value, std::string help,
           double* target);
  void AddSwitch(std::string name, std::string help, bool* target);

  // INVALID_ARGUMENT names the flag, what was wrong and the known flags.
  // Everything must be a flag.
  absl::Status Parse(const std::vector<std::string>& arguments) const;

  // One indented paragraph a flag.
  std::string Help() const;

 private:
  struct Flag {
    std::string name;
    std::string value;  // empty: a switch
    std::string help;
    std::function<absl::Status(absl::string_view)> set;
  };
  std::vector<Flag> flags_;
};

// Non-negative integers as people type them: 4096, 1_000_000, 1e6.
bool ParseCount(absl::string_view text, uint64_t* value);

}  // namespace latticed
