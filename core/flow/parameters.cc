#include "core/flow/parameters.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

namespace latticed {
namespace {

// Gram-Schmidt on the rows or columns of normal deviates, whichever are fewer.
std::vector<float> OrthogonalMatrix(int64_t rows, int64_t columns,
                                    const StreamId& stream, uint64_t index) {
  std::vector<float> normals(rows * columns);
  Normals(stream, index, Purpose::kStart, absl::MakeSpan(normals));
  const int64_t count = std::min(rows, columns);
  const int64_t length = std::max(rows, columns);
  std::vector<std::vector<double>> vectors;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<double> v(normals.begin() + i * length,
                          normals.begin() + (i + 1) * length);
    for (const std::vector<double>& other : vectors) {
      const double overlap =
          std::inner_product(v.begin(), v.end(), other.begin(), 0.0);
      for (int64_t j = 0; j < length; ++j) v[j] -= overlap * other[j];
    }
    const double norm =
        std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
    for (double& value : v) value /= norm;
    vectors.push_back(std::move(v));
  }
  std::vector<float> matrix(rows * columns);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < length; ++j) {
      const int64_t to = rows <= columns ? i * columns + j : j * columns + i;
      matrix[to] = static_cast<float>(vectors[i][j]);
    }
  }
  return matrix;
}

}  // namespace

int64_t ParameterTensor::Size() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1},
                         std::multiplies<>());
}

int64_t ParameterCount(const ParameterLayout& layout) {
  int64_t count = 0;
  for (const ParameterTensor& tensor : layout) count += tensor.Size();
  return count;
}

std::vector<float> RandomStart(const ParameterLayout& layout,
                               const StreamId& stream) {
  std::vector<float> parameters;
  parameters.reserve(ParameterCount(layout));
  for (size_t i = 0; i < layout.size(); ++i) {
    const ParameterStart& start = layout[i].start;
    if (start.orthogonal) {
      const std::vector<float> matrix = OrthogonalMatrix(
          layout[i].shape[0], layout[i].shape[1], stream, /*index=*/i);
      parameters.insert(parameters.end(), matrix.begin(), matrix.end());
      continue;
    }
    std::vector<uint32_t> words(layout[i].Size());
    RandomWords(stream, /*index=*/i, Purpose::kStart, 0, absl::MakeSpan(words));
    for (const uint32_t word : words) {
      const double u = (word + 1.0) * 0x1p-32;
      parameters.push_back(
          static_cast<float>(start.low + u * (start.high - start.low)));
    }
  }
  return parameters;
}

}  // namespace latticed
