#include "server/gate_runner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "core/stats/jackknife.h"
#include "core/stats/observable_sums.h"
#include "core/stats/observables.h"

namespace latticed {
namespace {

using Clock = std::chrono::steady_clock;

// Of the draws that are integrated again at 2N steps and backwards: enough for
// an rms to a few per cent.
constexpr int64_t kRepeatedDraws = 2048;
// Before `seconds` are over, drawing stops for what else there is to measure.
constexpr double kDrawingShare = 0.7;

// Feeds every block to `take` until the job ends, `due` has passed, or
// `stopping`. OK in the first two cases.
absl::Status ForEachBlock(Scheduler* scheduler, DrawRequest request,
                          Clock::time_point due,
                          const std::function<bool()>& stopping,
                          const std::function<void(const Block&)>& take) {
  request.background = true;
  std::unique_ptr<DrawJob> job;
  const grpc::Status submitted = scheduler->Submit(std::move(request), &job);
  if (!submitted.ok()) return absl::CancelledError(submitted.error_message());
  while (!job->Done()) {
    if (const std::unique_ptr<Block> block = job->Pop()) {
      take(*block);
      continue;
    }
    if (const grpc::Status failure = job->Failure(); !failure.ok()) {
      return absl::FailedPreconditionError(failure.error_message());
    }
    if (stopping()) return absl::CancelledError("the server is stopping");
    if (Clock::now() >= due) return absl::OkStatus();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return absl::OkStatus();
}

DrawRequest DrawsOf(const VersionRef& version, const std::string& stream,
                    int64_t count) {
  DrawRequest request;
  request.version = version;
  request.stream = NamedStream(stream);
  request.count = static_cast<uint64_t>(count);
  // Whole tiles of about 256 KiB, few of them: a block counts when it is full.
  const int64_t tiles = std::clamp<int64_t>(
      (int64_t{256} << 10) /
          Block::Bytes(version->tile, version->lattice.Sites(), true),
      1, 16);
  request.block_draws = tiles * version->tile;
  return request;
}

double Sign(double m) { return m > 0 ? 1 : m < 0 ? -1 : 0; }

// Reweighted observables and <sign M>, with jackknife errors, as draws come.
class Reweighted {
 public:
  Reweighted(const Lattice& lattice, int64_t draws, double log_w_reference)
      : lattice_(lattice), draws_(draws), reference_(log_w_reference) {}

  void Add(int64_t i, absl::Span<const float> phi, double action,
           double log_w) {
    const double exponent = log_w - reference_;
    // Past this the largest weight is everything, and another check says so.
    if (!(exponent < 500)) return;
    const size_t block = static_cast<size_t>(JackknifeBlock(i, draws_));
    if (block >= sums_.size()) {
      sums_.resize(block + 1, ObservableSums(lattice_.l0, lattice_.l1));
      signs_.resize(block + 1);
    }
    const Measurement measured = Measure(phi, lattice_.l0, lattice_.l1, action);
    sums_[block].Add(measured, std::exp(exponent));
    signs_[block] += std::exp(exponent) * Sign(measured.m);
  }

  std::map<std::string, Estimate> Observables() const {
    return EstimateBlocks(sums_);
  }

  Estimate SignM() const {
    double weight = 0, sign = 0;
    for (size_t b = 0; b < sums_.size(); ++b) {
      weight += sums_[b].weight();
      sign += signs_[b];
    }
    std::vector<double> without;
    for (size_t b = 0; b < sums_.size(); ++b) {
      without.push_back((sign - signs_[b]) / (weight - sums_[b].weight()));
    }
    return {sign / weight, JackknifeError(without)};
  }

 private:
  const Lattice lattice_;
  const int64_t draws_;
  const double reference_;
  std::vector<ObservableSums> sums_;
  std::vector<double> signs_;
};

}  // namespace

GateRunner::GateRunner(std::shared_ptr<Scheduler> scheduler, int64_t draws,
                       double seconds, std::string stream)
    : scheduler_(std::move(scheduler)),
      draws_(draws),
      seconds_(seconds),
      stream_(std::move(stream)) {}

absl::StatusOr<GateEvidence> GateRunner::Collect(
    const GateSubject& subject, const std::function<bool()>& stopping) const {
  const auto start = Clock::now();
  const auto after = [start](double seconds) {
    return start + std::chrono::duration_cast<Clock::duration>(
                       std::chrono::duration<double>(seconds));
  };
  const VersionRef& version = subject.version;
  const size_t sites = static_cast<size_t>(version->lattice.Sites());
  GateEvidence evidence;
  std::vector<double> log_q;
  auto phi = std::make_shared<std::vector<float>>();
  Reweighted reweighted(version->lattice, draws_,
                        version->manifest.log_weight_reference());
  double busy = 0;

  absl::Status status = ForEachBlock(
      scheduler_.get(), DrawsOf(version, stream_, draws_),
      after(kDrawingShare * seconds_), stopping, [&](const Block& block) {
        busy += block.seconds;
        for (size_t i = 0; i < static_cast<size_t>(block.count); ++i) {
          const auto field = block.phi().subspan(i * sites, sites);
          const double log_w = -block.action()[i] - block.log_q()[i];
          const int64_t at = static_cast<int64_t>(evidence.log_w.size());
          if (at < kRepeatedDraws) {
            log_q.push_back(block.log_q()[i]);
            phi->insert(phi->end(), field.begin(), field.end());
          }
          evidence.log_w.push_back(std::isfinite(block.action()[i]) ? log_w
                                                                    : NAN);
          if (std::isfinite(log_w)) {
            reweighted.Add(at, field, block.action()[i], log_w);
          }
        }
      });
  if (!status.ok()) return status;
  evidence.observables = reweighted.Observables();
  evidence.sign_m = reweighted.SignM();
  evidence.draws_per_second =
      busy > 0 ? static_cast<double>(evidence.log_w.size()) / busy : 0;

  // Backwards, and at 2N steps.
  const int64_t repeated = static_cast<int64_t>(log_q.size());
  if (repeated > 0) {
    DrawRequest back = DrawsOf(version, stream_, repeated);
    back.given = phi;
    back.phi = false;
    status = ForEachBlock(
        scheduler_.get(), std::move(back), after(seconds_), stopping,
        [&](const Block& block) {
          for (size_t i = 0; i < static_cast<size_t>(block.count); ++i) {
            evidence.round_trip.push_back(log_q[evidence.round_trip.size()] -
                                          block.log_q()[i]);
          }
        });
    if (!status.ok()) return status;
    DrawRequest again = DrawsOf(subject.doubled, stream_, repeated);
    again.phi = false;
    status = ForEachBlock(
        scheduler_.get(), std::move(again), after(seconds_), stopping,
        [&](const Block& block) {
          for (size_t i = 0; i < static_cast<size_t>(block.count); ++i) {
            const size_t at = evidence.step_doubling.size();
            evidence.step_doubling.push_back(
                evidence.log_w[at] + block.action()[i] + block.log_q()[i]);
          }
        });
    if (!status.ok()) return status;
  }
  if (subject.reference != nullptr && !subject.reference->phi.empty()) {
    const std::vector<float>& stored = subject.reference->phi;
    DrawRequest given =
        DrawsOf(version, stream_, static_cast<int64_t>(stored.size() / sites));
    given.given =
        std::shared_ptr<const std::vector<float>>(subject.reference, &stored);
    given.phi = false;
    status = ForEachBlock(
        scheduler_.get(), std::move(given), after(seconds_), stopping,
        [&](const Block& block) {
          for (size_t i = 0; i < static_cast<size_t>(block.count); ++i) {
            evidence.reference_log_w.push_back(-block.action()[i] -
                                               block.log_q()[i]);
          }
        });
    if (!status.ok()) return status;
  }
  evidence.seconds =
      std::chrono::duration<double>(Clock::now() - start).count();
  return evidence;
}

}  // namespace latticed
