#include "server/status_report.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/random/stream.h"
#include "google/protobuf/util/json_util.h"
#include "latticed/build_id.h"
#include "server/gate.h"
#include "server/health.h"

namespace latticed {
namespace {

constexpr size_t kTextBytesMax = 600;

// The first bytes of a text, in whole UTF-8 characters.
std::string Cut(const std::string& text) {
  if (text.size() <= kTextBytesMax) return text;
  size_t end = kTextBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
    --end;
  }
  return absl::StrCat(text.substr(0, end), "...");
}

v1::Estimate Message(const Estimate& estimate) {
  v1::Estimate message;
  message.set_value(estimate.value);
  message.set_error(estimate.error);
  return message;
}

bool Shown(const std::string& observable) {
  static constexpr const char* kNames[] = {"chi_2", "abs_M", "phi2",
                                           "link_energy", "action_per_site"};
  return absl::StartsWith(observable, "Gt_") ||
         std::find(std::begin(kNames), std::end(kNames), observable) !=
             std::end(kNames);
}

// A report without its checks' explanations, which the page does not show.
v1::GateReport Short(const v1::GateReport& gate, bool with_checks) {
  v1::GateReport report = gate;
  if (!with_checks) report.clear_checks();
  for (std::string& warning : *report.mutable_warnings())
    warning = Cut(warning);
  for (v1::GateCheck& check : *report.mutable_checks()) {
    check.set_detail(Cut(check.detail()));
  }
  return report;
}

}  // namespace

StatusReport::StatusReport(std::string device,
                           std::shared_ptr<const FlowStore> store,
                           std::shared_ptr<const Metrics> metrics,
                           std::shared_ptr<const Lifecycle> lifecycle)
    : device_(std::move(device)),
      store_(std::move(store)),
      metrics_(std::move(metrics)),
      lifecycle_(std::move(lifecycle)),
      recent_(std::make_shared<RecentDraws>(store_)),
      start_(std::chrono::steady_clock::now()),
      start_id_(FreshStream().Hex()),
      start_time_(absl::FormatTime(absl::RFC3339_sec, absl::Now(),
                                   absl::UTCTimeZone())) {}

double StatusReport::Seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                       start_)
      .count();
}

void StatusReport::Tick() {
  recent_->Measure(std::chrono::steady_clock::now());
  const double now = Seconds();
  if (!history_.Due(now)) return;
  history_.Add(now, metrics_->AllFigures(),
               metrics_->Totals().device_busy_seconds);
}

void StatusReport::FillVersions(const VersionRef& live,
                                v1::StatusModel* status) const {
  const std::vector<VersionRecord> records = store_->Records(status->model());
  const std::vector<v1::Judgement> judgements =
      lifecycle_->Judgements(status->model(), 4 * kVersionsMax);
  status->set_versions_total(static_cast<uint32_t>(records.size()));
  int listed = 0;
  for (const VersionRecord& record : records) {
    // The live one is shown however old it is.
    const bool is_live = live != nullptr && record.version == live->version;
    if (!is_live && listed >= kVersionsMax) continue;
    ++listed;
    v1::StatusVersion& version = *status->add_versions();
    version.set_version(record.version);
    version.set_digest(record.digest.substr(0, 12));
    version.set_state(record.state);
    version.set_reason(Cut(record.reason));
    if (record.manifest != nullptr) {
      const v1::Quality& quality = record.manifest->quality();
      version.set_publish_time(record.manifest->publish_time());
      version.mutable_published_ess()->set_value(quality.ess());
      version.mutable_published_ess()->set_error(quality.ess_error());
    }
    const auto judged = std::find_if(
        judgements.begin(), judgements.end(),
        [&record](const v1::Judgement& judgement) {
          return !record.digest.empty() && judgement.digest() == record.digest;
        });
    const bool with_checks =
        is_live || record.state == v1::VERSION_STATE_GATING;
    if (judged != judgements.end()) {
      version.set_judge_time(judged->time());
    }
    if (record.gate != nullptr && record.gate->checks_size() > 0) {
      *version.mutable_gate() = Short(*record.gate, with_checks);
    } else if (judged != judgements.end() && judged->gate().checks_size() > 0) {
      *version.mutable_gate() = Short(judged->gate(), with_checks);
    }
    if (is_live && version.gate().passed()) {
      status->set_rollback_ess(VersionHealth::kShareOfGate *
                               version.gate().ess().value());
    }
  }
}

void StatusReport::FillLive(const ServedVersion& live,
                            const ModelFigures& figures,
                            v1::StatusModel* status) const {
  status->set_live_version(live.version);
  status->set_lattice(live.lattice.Name());
  status->set_numerics_mode(live.numerics_mode);
  status->set_has_reference(live.reference != nullptr);
  status->set_draws(static_cast<uint64_t>(figures.draws));
  status->set_queued(static_cast<uint64_t>(std::max(0.0, figures.queued)));
  status->set_queue_capacity(static_cast<uint64_t>(figures.queue_capacity));
  status->set_proposals(static_cast<uint64_t>(figures.proposals));
  if (figures.proposals > 0) {
    status->set_acceptance(figures.accepted / figures.proposals);
  }
  // A version may have gone live between the two looks.
  if (figures.live == live.version) {
    status->set_weight_samples(static_cast<uint64_t>(figures.samples));
    const double norm = figures.samples * figures.sum_w2;
    if (norm > 0) status->set_ess(figures.sum_w * figures.sum_w / norm);
  }
  const auto recent = recent_->Of(live, std::chrono::steady_clock::now());
  if (!recent) return;
  v1::StatusRecentDraws& message = *status->mutable_recent();
  message.set_draws(recent->draws);
  message.set_blocks(static_cast<uint32_t>(recent->blocks));
  message.set_oldest_age_seconds(recent->oldest_age_seconds);
  message.set_newest_age_seconds(recent->newest_age_seconds);
  for (const auto& [name, estimate] : recent->observables) {
    if (!Shown(name)) continue;
    v1::StatusObservable& observable = *message.add_observables();
    observable.set_name(name);
    *observable.mutable_recent() = Message(estimate);
    if (live.reference == nullptr) continue;
    const auto it = live.reference->observables().find(name);
    if (it != live.reference->observables().end()) {
      *observable.mutable_reference() = it->second;
    }
  }
}

v1::ServerStatus StatusReport::Status(bool draining) const {
  const double now = Seconds();
  v1::ServerStatus status;
  status.set_build(kBuildId);
  status.set_start_id(start_id_);
  status.set_start_time(start_time_);
  status.set_uptime_seconds(now);
  status.set_device(device_);
  status.set_draining(draining);
  const ServerFigures totals = metrics_->Totals();
  for (const auto& [rpc, open] : totals.calls) {
    (*status.mutable_calls())[rpc] = open;
  }
  for (const auto& [reason, count] : totals.rejected) {
    (*status.mutable_rejected())[reason] = count;
  }
  *status.mutable_device_busy() = history_.DeviceBusy(now);
  status.set_draws_per_point(StatusHistory::kDrawsPerPoint);
  status.set_gate_sigmas(GateLimits().sigmas);
  const std::vector<std::string> models = store_->Models();
  status.set_models_total(static_cast<uint32_t>(models.size()));
  for (const std::string& name : models) {
    if (status.models_size() == kModelsMax) break;
    v1::StatusModel& model = *status.add_models();
    model.set_model(name);
    const VersionRef live = store_->Live(name);
    FillVersions(live, &model);
    if (live != nullptr) FillLive(*live, metrics_->Figures(name), &model);
    history_.Fill(name, now, &model);
  }
  return status;
}

absl::StatusOr<std::string> StatusReport::Json(bool draining) const {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto printed = google::protobuf::util::MessageToJsonString(
      Status(draining), &json, options);
  if (!printed.ok()) {
    return absl::InternalError(
        absl::StrCat("the status has no JSON: ", printed.ToString()));
  }
  return json;
}

}  // namespace latticed
