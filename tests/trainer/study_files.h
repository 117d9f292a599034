// The files of a study as tests read them.
#pragma once

#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "trainer/study/table.h"

namespace latticed {

inline std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<Row> ReadJson(const std::string& path) {
  google::protobuf::Struct json;
  EXPECT_TRUE(
      google::protobuf::util::JsonStringToMessage(Contents(path), &json).ok())
      << path;
  std::vector<Row> rows;
  for (auto& row : json.fields().at("rows").list_value().values()) {
    rows.emplace_back(row.struct_value());
  }
  return rows;
}

// Rows whose cells are as given.
inline std::vector<Row> Where(
    const std::vector<Row>& rows,
    const std::vector<std::pair<std::string, std::string>>& text) {
  std::vector<Row> found;
  for (const Row& row : rows) {
    bool fits = true;
    for (const auto& [column, value] : text) {
      fits = fits && row.Text(column) == value;
    }
    if (fits) found.push_back(row);
  }
  return found;
}

}  // namespace latticed
