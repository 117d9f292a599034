// fig2: log q of configurations and of their images under the symmetries of the
// action (2110.02673 fig. 2).
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/factory.h"
#include "trainer/study/studies.h"
#include "trainer/study/study_training.h"

namespace latticed {
namespace {

// A symmetry's element: phi'(x_0, x_1) = sign * phi(source(x_0, x_1)).
struct Element {
  std::string symmetry, name;
  float sign = 1;
  std::function<std::pair<int64_t, int64_t>(int64_t, int64_t)> source;
};

std::vector<Element> Elements(int64_t l) {
  std::vector<Element> elements;
  for (int64_t a = 0; a < l; ++a) {
    for (int64_t b = 0; b < l; ++b) {
      elements.push_back({"translation", absl::StrCat("(", a, ",", b, ")"), 1,
                          [=](int64_t x, int64_t y) {
                            return std::pair((x + a) % l, (y + b) % l);
                          }});
    }
  }
  for (int turn = 0; turn < 4; ++turn) {
    for (const bool mirror : {false, true}) {
      elements.push_back({"point group",
                          absl::StrCat("r", turn, mirror ? "m" : ""), 1,
                          [=](int64_t x, int64_t y) {
                            if (mirror) x = (l - x) % l;
                            for (int i = 0; i < turn; ++i) {
                              std::swap(x, y);
                              x = (l - x) % l;
                            }
                            return std::pair(x, y);
                          }});
    }
  }
  for (const float sign : {1.0f, -1.0f}) {
    elements.push_back({"sign", sign > 0 ? "+" : "-", sign,
                        [](int64_t x, int64_t y) { return std::pair(x, y); }});
  }
  return elements;
}

absl::StatusOr<Rows> Images(const StudyRun& run, FlowKind kind, int64_t l) {
  constexpr int64_t kConfigurations = 32;
  constexpr int64_t kShown = 8;  // in table "images"
  const auto flow = FlowOf(run, kind, l);
  if (!flow.ok()) return flow.status();
  const auto sampler = MakeSampler(flow->checkpoint.manifest.spec(),
                                   flow->checkpoint.weights, {});
  if (!sampler.ok()) return sampler.status();
  const int64_t sites = l * l, tile = (*sampler)->tile();
  const int64_t n = std::min(tile, kConfigurations);
  std::vector<float> phi(n * sites);
  std::vector<double> log_q(n), action(n);
  std::vector<DrawId> ids;
  const StreamId stream = NamedStream(absl::StrCat("study/fig2/", l));
  for (int64_t i = 0; i < n; ++i) {
    ids.push_back({stream, static_cast<uint64_t>(i)});
  }
  (*sampler)->Draw(ids, {absl::MakeSpan(phi), absl::MakeSpan(log_q),
                         absl::MakeSpan(action)});

  // All images, element by element: whole tiles cost what parts of them do.
  const std::vector<Element> elements = Elements(l);
  const int64_t count = static_cast<int64_t>(elements.size()) * n;
  std::vector<float> image(count * sites);
  for (int64_t j = 0; j < count; ++j) {
    const Element& element = elements[j / n];
    for (int64_t x = 0; x < sites; ++x) {
      const auto [a, b] = element.source(x / l, x % l);
      image[j * sites + x] = element.sign * phi[j % n * sites + a * l + b];
    }
  }
  log_q.resize(count);
  action.resize(count);
  for (int64_t first = 0; first < count; first += tile) {
    const int64_t part = std::min(tile, count - first);
    (*sampler)->Evaluate(
        absl::MakeSpan(image).subspan(first * sites, part * sites),
        absl::MakeSpan(log_q).subspan(first, part),
        absl::MakeSpan(action).subspan(first, part));
  }

  Rows rows;
  // By symmetry, of every configuration: log q of its images.
  std::map<std::string, std::vector<std::vector<double>>> images;
  for (int64_t j = 0; j < count; ++j) {
    const Element& element = elements[j / n];
    auto& all = images[element.symmetry];
    all.resize(n);
    all[j % n].push_back(log_q[j]);
    if (j % n >= kShown) continue;
    rows["images"].push_back(
        Row()
            .Set("L", static_cast<double>(l))
            .Set("flow", FlowName(kind))
            .Set("configuration", static_cast<double>(j % n))
            .Set("symmetry", element.symmetry)
            .Set("element", element.name)
            .Set("log_q", log_q[j])
            .Set("action", action[j]));
  }
  for (const auto& [symmetry, configurations] : images) {
    double squares = 0, values_seen = 0, largest = 0;
    for (const auto& values : configurations) {
      double mean = 0;
      for (const double v : values) {
        mean += v / static_cast<double>(values.size());
      }
      for (const double v : values) {
        squares += (v - mean) * (v - mean);
        largest = std::max(largest, std::abs(v - mean));
        ++values_seen;
      }
    }
    rows["spread"].push_back(Row()
                                 .Set("L", static_cast<double>(l))
                                 .Set("flow", FlowName(kind))
                                 .Set("symmetry", symmetry)
                                 .Set("rms", std::sqrt(squares / values_seen))
                                 .Set("max", largest));
  }
  return rows;
}

}  // namespace

Study SymmetryStudy() {
  Study study;
  study.name = "fig2";
  study.about = "log q of configurations and of their images";
  study.lattices = {6};
  study.tables = {
      {"images",
       "log q of some of a flow's own draws and of their images",
       {{"L", "extent of the lattice"},
        {"flow",
         "gated, published, realnvp, affine, spline, or of the ablation: full, "
         "without-d4, without-z2, without-both"},
        {"configuration", "draw of the flow"},
        {"symmetry", "translation, point group (D4) or sign (phi -> -phi)"},
        {"element", "translation by; r<quarter turns>, m: mirrored before"},
        {"log_q", ""},
        {"action", "S, the same for all images"}}},
      {"spread",
       "of log q over the images of a configuration",
       {{"L", ""},
        {"flow", ""},
        {"symmetry", ""},
        {"rms", "from the mean over the images"},
        {"max", "largest distance from it"}}}};
  study.pieces = [](const std::vector<int64_t>& lattices) {
    std::vector<Piece> pieces;
    for (const int64_t l : lattices) {
      for (const FlowKind kind :
           {FlowKind::kGated, FlowKind::kPublished, FlowKind::kRealNvp,
            FlowKind::kAffine, FlowKind::kSpline, FlowKind::kFull,
            FlowKind::kWithoutD4, FlowKind::kWithoutZ2,
            FlowKind::kWithoutBoth}) {
        pieces.push_back({StudyModel(kind, l), [=](const StudyRun& run) {
                            return Images(run, kind, l);
                          }});
      }
    }
    return pieces;
  };
  return study;
}

}  // namespace latticed
