// Names and help of every family: the one place where a metric is declared.
#include <string>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "latticed/build_id.h"
#include "server/errors.h"
#include "server/metrics.h"

namespace latticed {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

// OpenTelemetry's RPC buckets, in seconds.
const prometheus::Histogram::BucketBoundaries& RpcBuckets() {
  static const auto* const kBuckets =
      new prometheus::Histogram::BucketBoundaries{
          0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25,
          0.5,   0.75, 1,     2.5,  5,     7.5, 10};
  return *kBuckets;
}

}  // namespace

void Metrics::CreateFamilies() {
  const auto counter = [this](const char* name, const char* help) {
    return &BuildCounter()
                .Name(absl::StrCat("latticed_", name))
                .Help(help)
                .Register(registry_);
  };
  const auto gauge = [this](const char* name, const char* help) {
    return &BuildGauge()
                .Name(absl::StrCat("latticed_", name))
                .Help(help)
                .Register(registry_);
  };
  const auto histogram = [this](const char* name, const char* help) {
    return &BuildHistogram()
                .Name(absl::StrCat("latticed_", name))
                .Help(help)
                .Register(registry_);
  };
  rpc_started_ = counter("rpc_started_total", "Calls that arrived.");
  rpc_completed_ = counter("rpc_completed_total", "Calls that ended.");
  rpc_in_flight_ = gauge("rpc_in_flight", "Calls that are open.");
  rpc_duration_ = histogram("rpc_duration_seconds", "Unary calls.");
  rpc_first_message_ = histogram("rpc_time_to_first_message_seconds",
                                 "Streams, until the first message is sent.");
  rpc_sent_bytes_ = counter("rpc_sent_bytes_total", "Of messages.");
  rpc_sent_messages_ = counter("rpc_sent_messages_total", "Messages sent.");
  rpc_rejected_ = counter("rpc_rejected_total", "Calls turned away.");
  streams_terminated_ =
      counter("streams_terminated_total", "Streams that ended, by reason.");
  auth_failures_ =
      counter("auth_failures_total", "Calls refused for their credentials.");
  credential_reloads_ =
      counter("credential_reloads_total",
              "Certificates and token files that changed, by result.");
  certificate_expiry_ = gauge("tls_certificate_expiry_timestamp_seconds",
                              "When the certificate served ceases to be "
                              "valid; none without TLS.");
  write_wait_ = histogram("stream_write_wait_seconds",
                          "From the start of a write to its end: the "
                          "client's pace.");
  queue_ = gauge("queue_configurations", "Configurations that calls wait for.");
  queue_capacity_ = gauge("queue_capacity_configurations",
                          "Configurations that the buffers hold.");
  queue_wait_ = histogram("queue_wait_seconds",
                          "From when a block could be drawn until it was.");
  log_weight_ =
      histogram("log_weight", "log w of draws, less the version's reference.");
  rejection_run_ = histogram("chain_rejection_run_length",
                             "Rejections in a row, when one is accepted.");
  tile_seconds_ = histogram("tile_execution_seconds", "Drawing one tile.");
  tile_fill_ = histogram("tile_fill_ratio", "Share of a tile that was used.");
  generated_ = counter("configurations_generated_total", "Drawn.");
  delivered_ = counter("configurations_delivered_total",
                       "Drawn and sent, or used by a chain.");
  discarded_ = counter("configurations_discarded_total",
                       "Drawn for a call that ended before they were sent.");
  proposals_ = counter("chain_proposals_total", "Metropolis proposals.");
  accepted_ = counter("chain_proposals_accepted_total",
                      "Metropolis proposals that were accepted.");
  replica_audits_ =
      counter("replica_audits_total", "Tiles compared with another replica's.");
  replica_mismatches_ = counter("replica_audit_mismatch_total",
                                "Of them, those that were other bytes.");
  non_finite_ = counter("nonfinite_values_total",
                        "Draws whose log q or action is not finite.");
  model_info_ = gauge("model_info", "Loaded versions; always 1.");
  published_timestamp_ = gauge("model_published_timestamp_seconds",
                               "When the live version was published.");
  live_timestamp_ =
      gauge("model_live_timestamp_seconds", "When it went live here.");
  published_ess_ = gauge("model_published_ess_ratio",
                         "Effective sample size per draw that the trainer "
                         "measured.");
  published_acceptance_ = gauge("model_published_acceptance_ratio",
                                "Acceptance that the trainer measured.");
  gate_ess_ = gauge("model_gate_ess_ratio",
                    "Effective sample size per draw at the gate.");
  gate_acceptance_ =
      gauge("model_gate_acceptance_ratio", "Acceptance at the gate.");
  weight_samples_ =
      counter("importance_weight_samples_total", "Draws with a finite weight.");
  weight_sum_ = counter("importance_weight_sum_total",
                        "Of weights relative to the version's reference.");
  weight_square_sum_ =
      counter("importance_weight_square_sum_total",
              "Of squared weights relative to the version's reference.");
  model_loads_ = counter("model_loads_total", "Versions tried, by result.");
  load_seconds_ = histogram("model_load_seconds", "Loading, by phase.");
}

void Metrics::CreateRpcSeries(const RpcName& rpc, bool streaming) {
  const prometheus::Labels labels = {{"service", rpc.service},
                                     {"method", rpc.method}};
  RpcSeries series;
  series.started = &rpc_started_->Add(labels);
  series.in_flight = &rpc_in_flight_->Add(labels);
  if (streaming) {
    series.first_message = &rpc_first_message_->Add(labels, RpcBuckets());
    series.sent_bytes = &rpc_sent_bytes_->Add(labels);
    series.sent_messages = &rpc_sent_messages_->Add(labels);
  } else {
    series.duration = &rpc_duration_->Add(labels, RpcBuckets());
  }
  for (int code = 0; code <= 17; ++code) {
    const std::string name(CodeName(static_cast<grpc::StatusCode>(code)));
    prometheus::Labels with_code = labels;
    with_code["code"] = name;
    series.completed[name] = &rpc_completed_->Add(with_code);
  }
  rpcs_[rpc] = series;
}

Metrics::Metrics(RuntimeInfo runtime) : runtime_(std::move(runtime)) {
  CreateFamilies();
  for (const RpcName& rpc : {RpcName{"SamplerService", "StreamSamples"},
                             {"SamplerService", "EvaluateLogProb"},
                             {"ChainService", "RunChain"},
                             {"MeasureService", "Measure"},
                             {"ModelService", "WatchModelVersions"}}) {
    CreateRpcSeries(rpc, /*streaming=*/true);
  }
  for (const RpcName& rpc : {RpcName{"SamplerService", "Sample"},
                             {"ChainService", "VerifyChainToken"},
                             {"ModelService", "ListModels"},
                             {"ModelService", "GetModel"},
                             {"ModelService", "ListModelVersions"},
                             {"ModelService", "GetModelVersion"},
                             {"AdminService", "RefreshModel"},
                             {"AdminService", "PromoteModelVersion"},
                             {"AdminService", "RollbackModel"},
                             {"AdminService", "QuarantineModelVersion"},
                             {"AdminService", "UnquarantineModelVersion"},
                             {"AdminService", "DrainServer"},
                             {"AdminService", "GetServerInfo"}}) {
    CreateRpcSeries(rpc, /*streaming=*/false);
  }
  for (const char* reason :
       {"queue_full", "draining", "no_live_version", "quota", "auth"}) {
    rejections_[reason] = &rpc_rejected_->Add({{"reason", reason}});
  }
  for (const char* reason :
       {"complete", "client_cancel", "stalled", "drain", "error"}) {
    terminations_[reason] = &streams_terminated_->Add({{"reason", reason}});
  }
  for (const char* reason :
       {"missing", "malformed", "unknown", "expired", "role", "rate_limited"}) {
    auth_reasons_[reason] = &auth_failures_->Add({{"reason", reason}});
  }
  for (const char* file : {"certificate", "tokens"}) {
    for (const char* result : {"ok", "refused"}) {
      credential_reloads_->Add({{"file", file}, {"result", result}});
    }
  }
  write_wait_all_ = &write_wait_->Add({}, RpcBuckets());
  repository_success_ =
      &BuildGauge()
           .Name("latticed_repository_last_success_timestamp_seconds")
           .Help("When the repository was last read.")
           .Register(registry_)
           .Add({});
  auto& repository_errors =
      BuildCounter()
          .Name("latticed_repository_errors_total")
          .Help(
              "Attempts to read the repository or write the state file that "
              "failed.")
          .Register(registry_);
  for (const char* kind : {"repository", "version", "reference", "state"}) {
    repository_errors_[kind] = &repository_errors.Add({{"kind", kind}});
  }
  dropped_observations_ = &BuildCounter()
                               .Name("latticed_dropped_observations_total")
                               .Help("Values that no metric can take.")
                               .Register(registry_)
                               .Add({});
  const auto single = [this](const char* name, const char* help) {
    return &BuildCounter().Name(name).Help(help).Register(registry_).Add({});
  };
  replica_audit_failures_ =
      single("latticed_replica_audit_failures_total",
             "Comparisons with another replica that could not be made.");
  device_busy_ = single("latticed_device_busy_seconds_total",
                        "Time that the device drew.");
  device_oom_ = single("latticed_device_oom_total",
                       "Tiles for which the device had no memory.");
  device_errors_ = single("latticed_device_errors_total",
                          "Errors after which the device is lost.");
  BuildGauge()
      .Name("latticed_build_info")
      .Help("What is running; always 1.")
      .Register(registry_)
      .Add({{"version", kVersion},
            {"revision", kRevision},
            {"grpc", grpc::Version()},
            {"torch", runtime_.torch},
            {"cuda", runtime_.cuda}})
      .Set(1);
  if (runtime_.device_memory) {
    device_memory_ = &BuildGauge()
                          .Name("latticed_device_memory_bytes")
                          .Help("Of the device, and what LibTorch holds of it.")
                          .Register(registry_);
  }
}

}  // namespace latticed
