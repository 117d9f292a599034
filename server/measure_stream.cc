#include "server/measure_stream.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/stats/metropolis.h"
#include "server/codec.h"
#include "server/errors.h"

namespace latticed {
namespace {

constexpr char kLogZ[] = "log_Z";
constexpr std::chrono::milliseconds kProgressEvery(200);
// A block is a look at the clock: small, but no smaller than a tile.
constexpr uint32_t kBlockBytes = 256 << 10;

double LogWeight(const Block& block, size_t at) {
  const double log_q = block.log_q()[at];
  const double action = block.action()[at];
  return std::isfinite(log_q) && std::isfinite(action) ? -action - log_q
                                                       : std::nan("");
}

Measurement MeasureAt(const Block& block, size_t at) {
  const Lattice& lattice = block.version->lattice;
  const size_t sites = static_cast<size_t>(lattice.Sites());
  return Measure(block.phi().subspan(at * sites, sites), lattice.l0, lattice.l1,
                 block.action()[at]);
}

v1::MeasureSums Encoded(BlockSums sums) {
  sums.Coarsen(BlockSums::kDrawBlocksMax);
  v1::MeasureSums encoded;
  encoded.set_log_w_reference(sums.log_w_reference());
  encoded.set_block_size(sums.block_size());
  for (const BlockSum& block : sums.blocks()) {
    encoded.add_positions(block.positions);
    encoded.add_non_finite(block.non_finite);
    encoded.add_sum_w(block.sum_w);
    encoded.add_sum_w2(block.sum_w2);
    encoded.add_measured(block.measured);
    encoded.mutable_quantities()->Add(block.sums.begin(), block.sums.end());
  }
  return encoded;
}

v1::Estimate Encoded(const Estimate& estimate) {
  v1::Estimate encoded;
  encoded.set_value(estimate.value);
  encoded.set_error(estimate.error);
  return encoded;
}

}  // namespace

MeasureStream::~MeasureStream() {
  // Measured, but no message that says so went out.
  if (unreported_ > 0) {
    context_->metrics->Discarded(version_->model, unreported_);
  }
}

grpc::Status MeasureStream::CheckBudget() {
  const v1::MeasureBudget& budget = request_.budget();
  const auto check = [](const char* field, double value, double below) {
    if (value >= 0 && value < below) return grpc::Status::OK;
    return grpc::Status(InvalidField(
        absl::StrCat("budget.", field),
        absl::StrCat("is ", value, "; allowed are numbers above 0 and below ",
                     below, ", or 0 for no such limit")));
  };
  for (const grpc::Status& status :
       {check("relative_error", budget.relative_error(), 1),
        check("effective_samples", budget.effective_samples(), 0x1p40),
        check("seconds", budget.seconds(), 1e9)}) {
    if (!status.ok()) return status;
  }
  if (budget.draws() > kDrawsMax) {
    return InvalidField(
        "budget.draws",
        absl::StrCat("is ", budget.draws(), "; allowed are 1 to ", kDrawsMax));
  }
  if (budget.relative_error() == 0 && budget.effective_samples() == 0 &&
      budget.seconds() == 0 && budget.draws() == 0) {
    return InvalidField("budget",
                        "is required: set relative_error, effective_samples, "
                        "seconds or draws, or the measurement would never end");
  }
  return grpc::Status::OK;
}

grpc::Status MeasureStream::CheckObservables() {
  std::vector<std::string> names = ObservableNames(version_->lattice.l1);
  names.push_back(kLogZ);
  const int asked = request_.observable_size();
  if (asked == 0 || asked > kObservablesMax) {
    return InvalidField(
        "observable",
        absl::StrCat("has ", asked, " names; allowed are 1 to ",
                     kObservablesMax, " of ", absl::StrJoin(names, ", ")));
  }
  for (const std::string& name : request_.observable()) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    return InvalidField(
        "observable",
        absl::StrCat("has '", absl::CHexEscape(name.substr(0, 64)),
                     "', which is unknown; on ", version_->lattice.Name(),
                     " there are ", absl::StrJoin(names, ", ")));
  }
  return grpc::Status::OK;
}

grpc::Status MeasureStream::Begin(const grpc::ByteBuffer& bytes) {
  grpc::Status status = Decode(bytes, &request_);
  if (!status.ok()) return status;
  if (request_.model().policy() == v1::VERSION_POLICY_FOLLOW) {
    return InvalidField("model.policy",
                        "is FOLLOW, but a measurement has one target: use "
                        "PINNED");
  }
  if (!v1::Estimator_IsValid(request_.estimator())) {
    return InvalidField("estimator",
                        "is not IMPORTANCE_SAMPLING (1) or CHAIN (2)");
  }
  status = CheckBudget();
  if (!status.ok()) return status;
  status = SelectVersion(*context_->store, request_.model(), &version_);
  if (!status.ok()) return status;
  status = CheckExpected(
      *version_,
      request_.has_expected_action() ? &request_.expected_action() : nullptr,
      request_.has_expected_lattice() ? &request_.expected_lattice() : nullptr,
      context_->couplings);
  if (!status.ok()) return status;
  status = CheckObservables();
  if (!status.ok()) return status;
  uint64_t draws_max = request_.budget().draws();
  if (draws_max == 0) {
    // 2^64 - first_index draws are left, which 0 - first_index is unless that
    // is all of them.
    const uint64_t left = uint64_t{0} - request_.first_index();
    draws_max = left == 0 ? kDrawsMax : std::min(left, kDrawsMax);
  }
  status =
      CheckRange("budget.draws", request_.first_index(), draws_max, kDrawsMax);
  if (!status.ok()) return status;
  status = SelectStream(request_.has_stream(), request_.stream(), &stream_);
  if (!status.ok()) return status;

  DrawRequest draws;
  draws.version = version_;
  draws.stream = stream_;
  draws.first_index = request_.first_index();
  draws.count = draws_max;
  draws.block_draws =
      std::min(BlockDraws(*version_, BlockContent(), 0),
               std::max(version_->tile,
                        BlockDraws(*version_, BlockContent(), kBlockBytes)));
  draws.peer = peer_;
  draws.on_block = AdvanceLater();
  status = context_->scheduler->Submit(std::move(draws), &job_);
  if (!status.ok()) return status;

  sums_.emplace(version_->lattice.l0, version_->lattice.l1,
                request_.estimator() == v1::ESTIMATOR_CHAIN,
                version_->manifest.log_weight_reference());
  current_log_w_ = -std::numeric_limits<double>::infinity();
  end_index_ = request_.first_index();
  next_index_ = end_index_;
  started_ = std::chrono::steady_clock::now();
  reported_ = started_;
  v1::MeasureResponse header;
  *header.mutable_provenance() =
      MakeProvenance(*version_, stream_, request_.first_index());
  header.set_next_index(end_index_);
  outbox_.push_back({.message = Encode(header)});
  return status;
}

void MeasureStream::AddDraws(const Block& block) {
  for (size_t i = 0; i < static_cast<size_t>(block.count); ++i) {
    const double log_w = LogWeight(block, i);
    if (std::isnan(log_w)) {
      sums_->Add(log_w, nullptr);
    } else {
      const Measurement measurement = MeasureAt(block, i);
      sums_->Add(log_w, &measurement);
    }
  }
}

void MeasureStream::AddSteps(const Block& block) {
  std::vector<double> log_w, log_u;
  for (size_t i = 0; i < static_cast<size_t>(block.count); ++i) {
    log_w.push_back(LogWeight(block, i));
    log_u.push_back(
        std::log(Uniform(stream_, block.first_index + i, Purpose::kAccept)));
  }
  const Walk walk = AcceptReject(current_log_w_, log_w, log_u);
  for (size_t i = 0; i < log_w.size(); ++i) {
    if (walk.index[i] == static_cast<int64_t>(i)) {
      current_ = MeasureAt(block, i);
    }
    sums_->Add(log_w[i], current_.has_value() ? &*current_ : nullptr);
  }
  current_log_w_ = walk.log_w;
  accepted_ += static_cast<uint64_t>(walk.accepted);
  context_->metrics->Chain(version_->model, block.count,
                           static_cast<uint64_t>(walk.accepted));
}

std::map<std::string, Estimate> MeasureStream::Estimates() const {
  return sums_->chain() ? sums_->GammaObservables()
                        : sums_->JackknifeObservables();
}

bool MeasureStream::Reached() const {
  const v1::MeasureBudget& budget = request_.budget();
  if (budget.relative_error() == 0 && budget.effective_samples() == 0) {
    return false;
  }
  const std::map<std::string, Estimate> estimates = Estimates();
  if (estimates.empty()) return false;
  if (budget.effective_samples() > 0) {
    const double draws = static_cast<double>(sums_->Total().positions);
    const double effective =
        sums_->chain() ? draws / (2 * sums_->TauIntChi2(estimates.at("chi_2")))
                       : draws * sums_->Ess().value;
    if (effective >= budget.effective_samples()) return true;
  }
  if (budget.relative_error() == 0) return false;
  for (const std::string& name : request_.observable()) {
    const Estimate estimate =
        name == kLogZ ? sums_->LogZ() : estimates.at(name);
    // Not reached by what is not determined yet.
    if (!(estimate.error <=
          budget.relative_error() * std::abs(estimate.value))) {
      return false;
    }
  }
  return true;
}

void MeasureStream::PushMessage(bool final) {
  v1::MeasureResponse message;
  const std::map<std::string, Estimate> estimates = Estimates();
  for (const std::string& name : request_.observable()) {
    const auto it = estimates.find(name);
    if (it != estimates.end()) {
      (*message.mutable_observables())[name] = Encoded(it->second);
    }
  }
  *message.mutable_log_z() = Encoded(sums_->LogZ());
  *message.mutable_summary() = MakeSummary(weights_);
  message.set_final(final);
  if (final || request_.progress_sums()) {
    *message.mutable_sums() = Encoded(*sums_);
  }
  message.set_next_index(end_index_);
  if (sums_->chain()) {
    if (!estimates.empty()) {
      message.set_tau_int(sums_->TauIntChi2(estimates.at("chi_2")));
    }
    message.set_accepted(accepted_);
  }
  outbox_.push_back({.message = Encode(message),
                     .model = version_->model,
                     .draws = std::exchange(unreported_, 0),
                     .next_index = end_index_});
  reported_ = std::chrono::steady_clock::now();
}

bool MeasureStream::Produce() {
  // A client that does not read stops its draws, not only its messages.
  if (!outbox_.empty()) return false;
  const std::unique_ptr<Block> block = job_->Pop();
  if (block == nullptr) {
    const grpc::Status failure = job_->Failure();
    if (!failure.ok()) end_ = failure;
    return false;
  }
  WeightSums weights;
  int64_t non_finite_log_q = 0;
  int64_t non_finite_action = 0;
  for (size_t i = 0; i < static_cast<size_t>(block->count); ++i) {
    weights.Add(LogWeight(*block, i));
    non_finite_log_q += std::isfinite(block->log_q()[i]) ? 0 : 1;
    non_finite_action += std::isfinite(block->action()[i]) ? 0 : 1;
  }
  Metrics& metrics = *context_->metrics;
  metrics.Weights(version_->model, version_->version, weights);
  metrics.NonFinite(version_->model, "log_q", non_finite_log_q);
  metrics.NonFinite(version_->model, "action", non_finite_action);
  weights_.Merge(weights);
  if (sums_->chain()) {
    AddSteps(*block);
  } else {
    AddDraws(*block);
  }
  unreported_ += block->count;
  end_index_ += static_cast<uint64_t>(block->count);

  const uint64_t draws = end_index_ - request_.first_index();
  const SteadyTime now = std::chrono::steady_clock::now();
  const double seconds = request_.budget().seconds();
  bool done =
      job_->Done() ||
      (seconds > 0 && now - started_ >= std::chrono::duration<double>(seconds));
  if (!done && draws >= next_check_) {
    done = Reached();
    next_check_ = draws + draws / 20;
  }
  if (done) {
    PushMessage(/*final=*/true);
    end_ = grpc::Status::OK;
    job_->Cancel();
    return true;
  }
  if (now - reported_ >= kProgressEvery) PushMessage(/*final=*/false);
  // One block at a time: other calls share the reply threads, and a cancel
  // waits for the lock.
  context_->executor->Post(AdvanceLater());
  return false;
}

grpc::Status MeasureStream::DrainStatus() {
  if (version_ == nullptr) {
    return Error(grpc::StatusCode::UNAVAILABLE, "DRAINING",
                 "the server is stopping; call again");
  }
  const std::string id = absl::BytesToHexString(stream_.Bytes());
  return Error(
             grpc::StatusCode::UNAVAILABLE, "DRAINING",
             absl::StrCat("the server is stopping; call again with stream.id ",
                          id, ", first_index ", next_index_, " and digest ",
                          version_->digest.substr(0, 12),
                          "..., and merge the sums of your last message"))
      .With("stream_id", id)
      .With("next_index", next_index_)
      .With("model", version_->model)
      .With("digest", version_->digest)
      .RetryAfter(std::chrono::seconds(1));
}

}  // namespace latticed
