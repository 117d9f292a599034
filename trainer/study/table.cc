#include "trainer/study/table.h"

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/wire/atomic_file.h"
#include "google/protobuf/util/json_util.h"
#include "latticed/build_id.h"

namespace latticed {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

Value& Field(Struct& in, absl::string_view name) {
  return (*in.mutable_fields())[std::string(name)];
}

std::string Json(const google::protobuf::Message& message) {
  std::string text;
  // Cells are finite numbers and text: nothing that JSON lacks.
  (void)google::protobuf::util::MessageToJsonString(message, &text);
  return text;
}

// Cells in the order of their names.
std::string RowJson(const Row& row) {
  const std::map<std::string, Value> cells(row.cells().fields().begin(),
                                           row.cells().fields().end());
  std::string text;
  for (const auto& [column, cell] : cells) {
    Value name;
    name.set_string_value(column);
    absl::StrAppend(&text, text.empty() ? "{" : ",", Json(name), ":",
                    Json(cell));
  }
  return text.empty() ? "{}" : text + "}";
}

// A row a line, for people and for diffs.
std::string JsonRows(const std::vector<Row>& rows) {
  std::string text = "[";
  for (const Row& row : rows) {
    absl::StrAppend(&text, text.size() > 1 ? ",\n" : "\n", RowJson(row));
  }
  return text + "]";
}

std::string CsvCell(const Row& row, const std::string& column) {
  const auto cell = row.cells().fields().find(column);
  if (cell == row.cells().fields().end()) return "";
  if (cell->second.has_number_value()) {
    return Json(cell->second);  // reads back as the same double
  }
  const std::string& text = cell->second.string_value();
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

}  // namespace

Row& Row::Set(absl::string_view column, double value) {
  if (std::isfinite(value)) Field(cells_, column).set_number_value(value);
  return *this;
}

Row& Row::Set(absl::string_view column, absl::string_view text) {
  Field(cells_, column).set_string_value(std::string(text));
  return *this;
}

Row& Row::Set(absl::string_view column, const Estimate& estimate) {
  Set(column, estimate.value);
  return Set(absl::StrCat(column, "_error"), estimate.error);
}

double Row::Number(absl::string_view column) const {
  const auto cell = cells_.fields().find(std::string(column));
  return cell == cells_.fields().end()
             ? std::numeric_limits<double>::quiet_NaN()
             : cell->second.number_value();
}

std::string Row::Text(absl::string_view column) const {
  const auto cell = cells_.fields().find(std::string(column));
  return cell == cells_.fields().end() ? "" : cell->second.string_value();
}

std::vector<Column> EstimateColumns(const std::string& name,
                                    const std::string& about) {
  return {{name, about},
          {absl::StrCat(name, "_error"), "one standard deviation"}};
}

std::vector<Column> Join(std::initializer_list<std::vector<Column>> parts) {
  std::vector<Column> columns;
  for (const std::vector<Column>& part : parts) {
    columns.insert(columns.end(), part.begin(), part.end());
  }
  return columns;
}

absl::Status WriteTable(const std::string& directory, const Table& table,
                        const std::vector<Row>& rows) {
  std::set<std::string> known;
  Value name, about;
  std::vector<Row> columns;
  name.set_string_value(table.name);
  about.set_string_value(table.about);
  std::string csv;
  for (const Column& column : table.columns) {
    absl::StrAppend(&csv, csv.empty() ? "" : ",", column.name);
    known.insert(column.name);
    columns.push_back(
        Row().Set("name", column.name).Set("about", column.about));
  }
  csv += "\n";
  for (const Row& row : rows) {
    for (const auto& [column, cell] : row.cells().fields()) {
      if (!known.contains(column)) {
        return absl::InternalError(absl::StrCat(
            "table ", table.name, " has no column '", column, "'"));
      }
    }
    for (const Column& column : table.columns) {
      absl::StrAppend(&csv, &column == &table.columns.front() ? "" : ",",
                      CsvCell(row, column.name));
    }
    csv += "\n";
  }
  const std::string json =
      absl::StrCat("{\"table\":", Json(name), ",\"about\":", Json(about),
                   ",\n\"columns\":", JsonRows(columns),
                   ",\n\"rows\":", JsonRows(rows), "}\n");
  const std::string path = absl::StrCat(directory, "/", table.name);
  absl::Status written = WriteFileAtomically(path + ".json", json);
  if (written.ok()) written = WriteFileAtomically(path + ".csv", csv);
  return written;
}

absl::Status WriteRows(const std::string& path, const std::string& settings,
                       const Rows& rows) {
  Value text;
  text.set_string_value(settings);
  std::string json = absl::StrCat("{\"settings\":", Json(text));
  text.set_string_value(kBuildId);
  absl::StrAppend(&json, ",\"build\":", Json(text), ",\"rows\":{");
  const char* separator = "\n";
  for (const auto& [name, list] : rows) {
    text.set_string_value(name);
    absl::StrAppend(&json, separator, Json(text), ":", JsonRows(list));
    separator = ",\n";
  }
  return WriteFileAtomically(path, json + "}}\n");
}

absl::StatusOr<Rows> ReadRows(const std::string& path,
                              const std::string& settings, std::string* build) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": not there"));
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  Struct json;
  if (!google::protobuf::util::JsonStringToMessage(text, &json).ok() ||
      !Field(json, "rows").has_struct_value()) {
    return absl::DataLossError(absl::StrCat(
        path, ": damaged; remove it, and the same command makes it again"));
  }
  if (const std::string& made = Field(json, "settings").string_value();
      made != settings) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": made with ", made, ", not with ", settings,
                     "; remove it to make it again, or use another --output"));
  }
  if (build != nullptr) *build = Field(json, "build").string_value();
  Rows rows;
  for (auto& [name, list] :
       *Field(json, "rows").mutable_struct_value()->mutable_fields()) {
    std::vector<Row>& out = rows[name];
    for (auto& row : *list.mutable_list_value()->mutable_values()) {
      out.emplace_back(std::move(*row.mutable_struct_value()));
    }
  }
  return rows;
}

}  // namespace latticed
