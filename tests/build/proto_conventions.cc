#include "tests/build/proto_conventions.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace latticed {
namespace {

using google::protobuf::DescriptorProto;
using google::protobuf::EnumDescriptorProto;
using google::protobuf::FieldDescriptorProto;
using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;
using google::protobuf::ServiceDescriptorProto;

using Breaches = std::vector<std::string>;

bool Ours(const FileDescriptorProto& file) {
  return absl::StartsWith(file.package(), "latticed") ||
         absl::StartsWith(file.name(), "latticed/");
}

bool CapWords(absl::string_view name) {
  return !name.empty() && absl::ascii_isupper(name[0]) &&
         std::all_of(name.begin(), name.end(), absl::ascii_isalnum);
}

bool LowerSnakeCase(absl::string_view name) {
  return !name.empty() && absl::ascii_islower(name[0]) && name.back() != '_' &&
         !absl::StrContains(name, "__") &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
         });
}

// VersionPolicy -> VERSION_POLICY
std::string UpperSnakeCase(absl::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    if (i > 0 && absl::ascii_isupper(name[i]) &&
        !absl::ascii_isupper(name[i - 1])) {
      out += '_';
    }
    out += absl::ascii_toupper(name[i]);
  }
  return out;
}

void CheckEnum(const std::string& scope, const EnumDescriptorProto& type,
               Breaches* breaches) {
  const std::string name = absl::StrCat(scope, ".", type.name());
  if (!CapWords(type.name())) {
    breaches->push_back(absl::StrCat(name, ": enums are CapWords"));
  }
  const std::string prefix = UpperSnakeCase(type.name()) + "_";
  for (const auto& value : type.value()) {
    if (!absl::StartsWith(value.name(), prefix)) {
      breaches->push_back(absl::StrCat(name, ".", value.name(),
                                       ": values begin with ", prefix));
    }
    if ((value.number() == 0) != (value.name() == prefix + "UNSPECIFIED")) {
      breaches->push_back(absl::StrCat(name, ".", value.name(), ": 0 is ",
                                       prefix, "UNSPECIFIED and nothing else"));
    }
  }
}

void CheckMessage(const std::string& scope, const DescriptorProto& type,
                  Breaches* breaches) {
  if (type.options().map_entry()) return;
  const std::string name = absl::StrCat(scope, ".", type.name());
  if (!CapWords(type.name())) {
    breaches->push_back(absl::StrCat(name, ": messages are CapWords"));
  }
  for (const FieldDescriptorProto& field : type.field()) {
    if (!LowerSnakeCase(field.name())) {
      breaches->push_back(absl::StrCat(name, ".", field.name(),
                                       ": fields are lower_snake_case"));
    }
  }
  for (const auto& oneof : type.oneof_decl()) {
    if (!LowerSnakeCase(oneof.name())) {
      breaches->push_back(absl::StrCat(name, ".", oneof.name(),
                                       ": oneofs are lower_snake_case"));
    }
  }
  for (const auto& nested : type.nested_type()) {
    CheckMessage(name, nested, breaches);
  }
  for (const auto& nested : type.enum_type()) {
    CheckEnum(name, nested, breaches);
  }
}

// `used` counts the RPCs that a message serves.
void CheckService(const std::string& scope, const ServiceDescriptorProto& type,
                  std::map<std::string, int>* used, Breaches* breaches) {
  const std::string name = absl::StrCat(scope, ".", type.name());
  if (!CapWords(type.name()) || !absl::EndsWith(type.name(), "Service")) {
    breaches->push_back(
        absl::StrCat(name, ": services are CapWords and end in Service"));
  }
  for (const auto& method : type.method()) {
    if (!CapWords(method.name())) {
      breaches->push_back(
          absl::StrCat(name, ".", method.name(), ": methods are CapWords"));
    }
    const std::string expected = absl::StrCat(".", scope, ".", method.name());
    if (method.input_type() != expected + "Request" ||
        method.output_type() != expected + "Response") {
      breaches->push_back(absl::StrCat(name, ".", method.name(), ": takes ",
                                       method.name(), "Request and returns ",
                                       method.name(),
                                       "Response of its own package"));
    }
    for (const auto& message : {method.input_type(), method.output_type()}) {
      if (++(*used)[message] == 2) {
        breaches->push_back(absl::StrCat(
            message.substr(1), ": serves one method of one service only"));
      }
    }
  }
}

void CheckFile(const FileDescriptorProto& file,
               std::map<std::string, int>* used, Breaches* breaches) {
  const std::vector<std::string> parts = absl::StrSplit(file.package(), '.');
  if (parts.size() < 2 || parts.back() != "v1") {
    breaches->push_back(absl::StrCat(file.name(), ": package '", file.package(),
                                     "' must end in .v1"));
  }
  const std::string directory =
      absl::StrReplaceAll(file.package(), {{".", "/"}}) + "/";
  const size_t slash = file.name().rfind('/') + 1;
  if (file.name().substr(0, slash) != directory) {
    breaches->push_back(absl::StrCat(file.name(), ": package ", file.package(),
                                     " belongs into ", directory));
  }
  const std::string base = file.name().substr(slash);
  if (!absl::EndsWith(base, ".proto") ||
      !LowerSnakeCase(absl::string_view(base).substr(0, base.size() - 6))) {
    breaches->push_back(
        absl::StrCat(file.name(), ": files are lower_snake_case.proto"));
  }
  if (file.syntax() != "proto3") {
    breaches->push_back(absl::StrCat(file.name(), ": must be proto3"));
  }
  for (const auto& type : file.message_type()) {
    CheckMessage(file.package(), type, breaches);
  }
  for (const auto& type : file.enum_type()) {
    CheckEnum(file.package(), type, breaches);
  }
  for (const auto& type : file.service()) {
    CheckService(file.package(), type, used, breaches);
  }
}

std::string TypeName(const FieldDescriptorProto& field) {
  if (!field.type_name().empty()) return field.type_name().substr(1);
  return absl::AsciiStrToLower(
      FieldDescriptorProto::Type_Name(field.type()).substr(5));
}

struct Element {
  std::string scope;  // full name of the message or enum
  int number = 0;
  std::string line;
};

// Everything with a number, and what is reserved: numbers by scope.
struct Inventory {
  std::vector<Element> elements;
  std::map<std::string, std::set<int>> reserved;
};

void AddEnum(const std::string& scope, const EnumDescriptorProto& type,
             Inventory* inventory) {
  const std::string name = absl::StrCat(scope, ".", type.name());
  for (const auto& value : type.value()) {
    inventory->elements.push_back(
        {name, value.number(),
         absl::StrCat(name, ".", value.name(), " = ", value.number())});
  }
  for (const auto& range : type.reserved_range()) {
    for (int n = range.start(); n <= std::min(range.end(), 1000); ++n) {
      inventory->reserved[name].insert(n);
    }
  }
}

void AddMessage(const std::string& scope, const DescriptorProto& type,
                Inventory* inventory) {
  const std::string name = absl::StrCat(scope, ".", type.name());
  for (const FieldDescriptorProto& field : type.field()) {
    const bool repeated = field.label() == FieldDescriptorProto::LABEL_REPEATED;
    inventory->elements.push_back(
        {name, field.number(),
         absl::StrCat(name, ".", field.name(), " = ", field.number(),
                      repeated ? " repeated " : " ", TypeName(field))});
  }
  for (const auto& range : type.reserved_range()) {
    for (int n = range.start(); n < std::min(range.end(), 1000); ++n) {
      inventory->reserved[name].insert(n);
    }
  }
  for (const auto& nested : type.nested_type()) {
    AddMessage(name, nested, inventory);
  }
  for (const auto& nested : type.enum_type()) AddEnum(name, nested, inventory);
}

Inventory TakeInventory(const FileDescriptorSet& files) {
  Inventory inventory;
  for (const FileDescriptorProto& file : files.file()) {
    if (!Ours(file)) continue;
    for (const auto& type : file.message_type()) {
      AddMessage(file.package(), type, &inventory);
    }
    for (const auto& type : file.enum_type()) {
      AddEnum(file.package(), type, &inventory);
    }
  }
  return inventory;
}

}  // namespace

std::vector<std::string> ProtoBreaches(const FileDescriptorSet& files) {
  Breaches breaches;
  std::map<std::string, int> used;
  for (const FileDescriptorProto& file : files.file()) {
    if (Ours(file)) CheckFile(file, &used, &breaches);
  }
  return breaches;
}

std::vector<std::string> ProtoNumbers(const FileDescriptorSet& files) {
  std::vector<std::string> lines;
  for (const Element& element : TakeInventory(files).elements) {
    lines.push_back(element.line);
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::vector<std::string> NumberBreaches(
    const FileDescriptorSet& files, const std::vector<std::string>& golden) {
  Breaches breaches;
  const Inventory inventory = TakeInventory(files);
  const std::set<std::string> published(golden.begin(), golden.end());
  std::set<std::string> now;
  for (const Element& element : inventory.elements) now.insert(element.line);

  for (const std::string& line : published) {
    if (now.contains(line)) continue;
    // "scope.name = number ..."
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    int number = 0;
    if (words.size() < 3 || !absl::SimpleAtoi(words[2], &number)) {
      breaches.push_back(absl::StrCat("cannot read golden line: ", line));
      continue;
    }
    const std::string scope = words[0].substr(0, words[0].rfind('.'));
    const auto reserved = inventory.reserved.find(scope);
    const bool retired = reserved != inventory.reserved.end() &&
                         reserved->second.contains(number);
    if (!retired) {
      breaches.push_back(
          absl::StrCat("published, now changed or gone: ", line,
                       " (give a new field a new number, and reserve the "
                       "number of one that goes)"));
    }
  }
  for (const Element& element : inventory.elements) {
    if (published.contains(element.line)) continue;
    for (const std::string& line : published) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      const std::string scope = words[0].substr(0, words[0].rfind('.'));
      if (scope == element.scope && words.size() > 2 &&
          words[2] == absl::StrCat(element.number)) {
        breaches.push_back(
            absl::StrCat("reuses the number of ", line, ": ", element.line));
      }
    }
    breaches.push_back(absl::StrCat(
        "not in tests/golden/proto_numbers.txt, add it: ", element.line));
  }
  return breaches;
}

}  // namespace latticed
