// What a study measures: tables of rows, kept as JSON and as CSV.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/stats/log_weights.h"
#include "google/protobuf/struct.pb.h"

namespace latticed {

// One row: cells by column name, numbers or text. Cells that are not set are
// empty.
class Row {
 public:
  Row() = default;
  explicit Row(google::protobuf::Struct cells) : cells_(std::move(cells)) {}

  // NaN and infinities leave the cell empty: JSON has none.
  Row& Set(absl::string_view column, double value);
  Row& Set(absl::string_view column, absl::string_view text);
  Row& Set(absl::string_view column, const char* text) {
    return Set(column, absl::string_view(text));
  }
  // `column` and `column`_error.
  Row& Set(absl::string_view column, const Estimate& estimate);

  // NaN, "" for empty cells.
  double Number(absl::string_view column) const;
  std::string Text(absl::string_view column) const;

  const google::protobuf::Struct& cells() const { return cells_; }

 private:
  google::protobuf::Struct cells_;
};

// Rows by the name of their table.
using Rows = std::map<std::string, std::vector<Row>>;

struct Column {
  std::string name;
  std::string about;  // with units
};

struct Table {
  std::string name;
  std::string about;
  std::vector<Column> columns;
};

// The columns of an estimate, `name` and `name`_error (one standard deviation).
std::vector<Column> EstimateColumns(const std::string& name,
                                    const std::string& about);

// One after the other.
std::vector<Column> Join(std::initializer_list<std::vector<Column>> parts);

// <directory>/<table>.json, {"table", "about", "columns": [{"name", "about"}],
// "rows": [{column: cell}]}, and <directory>/<table>.csv with a header line,
// both atomically. A cell of a column that the table does not have is
// INTERNAL.
absl::Status WriteTable(const std::string& directory, const Table& table,
                        const std::vector<Row>& rows);

// Rows to and from a file, {"settings": "...", "build": "...", "rows": {table:
// [...]}}, the build being who wrote it. Reading: NOT_FOUND if there is none,
// DATA_LOSS if it is damaged, FAILED_PRECONDITION if it was made with other
// settings. `build` gets who wrote it.
absl::Status WriteRows(const std::string& path, const std::string& settings,
                       const Rows& rows);
absl::StatusOr<Rows> ReadRows(const std::string& path,
                              const std::string& settings,
                              std::string* build = nullptr);

}  // namespace latticed
