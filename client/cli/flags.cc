#include "client/cli/flags.h"

#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace latticed {
namespace {

// Wide enough for the longest name and value.
constexpr size_t kHelpColumn = 28;

}  // namespace

bool ParseCount(absl::string_view text, uint64_t* value) {
  // Underscores separate digits; strtoull would also take signs and spaces.
  const std::string digits = absl::StrReplaceAll(text, {{"_", ""}});
  if (digits.empty() || !absl::ascii_isdigit(digits[0])) return false;
  if (absl::SimpleAtoi(digits, value)) return true;
  double number = 0;
  if (!absl::StrContains(digits, 'e') || !absl::SimpleAtod(digits, &number) ||
      number != std::floor(number) || number > 0x1p53) {
    return false;
  }
  *value = static_cast<uint64_t>(number);
  return true;
}

void FlagSet::Add(std::string name, std::string value, std::string help,
                  std::string* target) {
  flags_.push_back({std::move(name), std::move(value), std::move(help),
                    [target](absl::string_view text) {
                      *target = std::string(text);
                      return absl::OkStatus();
                    }});
}

void FlagSet::Add(std::string name, std::string value, std::string help,
                  uint64_t* target) {
  flags_.push_back({std::move(name), std::move(value), std::move(help),
                    [target](absl::string_view text) {
                      return ParseCount(text, target)
                                 ? absl::OkStatus()
                                 : absl::InvalidArgumentError(
                                       "is not a count such as 4096 or 1e6");
                    }});
}

void FlagSet::Add(std::string name, std::string value, std::string help,
                  std::optional<uint64_t>* target) {
  flags_.push_back({std::move(name), std::move(value), std::move(help),
                    [target](absl::string_view text) {
                      return ParseCount(text, &target->emplace())
                                 ? absl::OkStatus()
                                 : absl::InvalidArgumentError(
                                       "is not a number such as 4096 or 1e6");
                    }});
}

void FlagSet::Add(std::string name, std::string value, std::string help,
                  double* target) {
  flags_.push_back({std::move(name), std::move(value), std::move(help),
                    [target](absl::string_view text) {
                      const bool ok = absl::SimpleAtod(text, target) &&
                                      std::isfinite(*target) && *target >= 0;
                      return ok ? absl::OkStatus()
                                : absl::InvalidArgumentError(
                                      "is not a number >= 0");
                    }});
}

void FlagSet::AddSwitch(std::string name, std::string help, bool* target) {
  flags_.push_back(
      {std::move(name), "", std::move(help), [target](absl::string_view) {
         *target = true;
         return absl::OkStatus();
       }});
}

absl::Status FlagSet::Parse(const std::vector<std::string>& arguments) const {
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (!absl::StartsWith(argument, "--") || argument.size() < 3) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected argument '", argument,
                       "': everything after the command is a --flag"));
    }
    argument.remove_prefix(2);
    const size_t equals = argument.find('=');
    const std::string name =
        absl::StrReplaceAll(argument.substr(0, equals), {{"-", "_"}});
    const Flag* flag = nullptr;
    for (const Flag& known : flags_) {
      if (known.name == name) flag = &known;
    }
    if (flag == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "unknown flag --", name, "; known are ",
          absl::StrJoin(flags_, ", ", [](std::string* out, const Flag& f) {
            absl::StrAppend(out, "--", f.name);
          })));
    }
    absl::string_view value;
    if (flag->value.empty()) {
      if (equals != absl::string_view::npos) {
        return absl::InvalidArgumentError(
            absl::StrCat("--", name, " takes no value"));
      }
    } else if (equals != absl::string_view::npos) {
      value = argument.substr(equals + 1);
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " needs a value: ", flag->value));
    }
    if (absl::Status s = flag->set(value); !s.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, ": '", value, "' ", s.message()));
    }
  }
  return absl::OkStatus();
}

std::string FlagSet::Help() const {
  std::string text;
  for (const Flag& flag : flags_) {
    std::string left = absl::StrCat("  --", flag.name,
                                    flag.value.empty() ? "" : " ", flag.value);
    left.resize(std::max(kHelpColumn, left.size() + 1), ' ');
    absl::StrAppend(
        &text, left,
        absl::StrReplaceAll(
            flag.help,
            {{"\n", absl::StrCat("\n", std::string(kHelpColumn, ' '))}}),
        "\n");
  }
  return text;
}

}  // namespace latticed
