#include "trainer/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/http/address.h"
#include "core/http/http_server.h"

namespace latticed {
namespace {

void SetFinite(prometheus::Gauge* gauge, double value) {
  if (std::isfinite(value)) gauge->Set(value);
}

}  // namespace

TrainerMetrics::TrainerMetrics() = default;
TrainerMetrics::~TrainerMetrics() = default;

absl::StatusOr<std::unique_ptr<TrainerMetrics>> TrainerMetrics::Create(
    const std::string& listen, const std::string& model, bool allow_remote) {
  std::unique_ptr<TrainerMetrics> metrics(new TrainerMetrics);
  metrics->registry_ = std::make_shared<prometheus::Registry>();
  const std::map<std::string, std::string> labels = {{"model", model}};
  const auto gauge = [&](const char* name, const char* help) {
    return &prometheus::BuildGauge()
                .Name(name)
                .Help(help)
                .Register(*metrics->registry_)
                .Add(labels);
  };
  const auto counter = [&](const char* name, const char* help) {
    return &prometheus::BuildCounter()
                .Name(name)
                .Help(help)
                .Register(*metrics->registry_)
                .Add(labels);
  };
  metrics->loss_ = gauge("latticed_train_loss",
                         "Mean of log q + S over the last report's draws");
  metrics->ess_ = gauge("latticed_train_ess_ratio",
                        "Effective sample size per draw, last report");
  metrics->sigma2_ = gauge("latticed_train_log_weight_variance_per_site",
                           "Variance of log w per site, last report");
  metrics->gradient_norm_ =
      gauge("latticed_train_gradient_norm", "Before clipping, last step");
  metrics->learning_rate_ =
      gauge("latticed_train_learning_rate", "Of the last step");
  metrics->published_ess_ = gauge("latticed_train_published_ess_ratio",
                                  "Held-out ESS of the last publication");
  metrics->steps_ =
      counter("latticed_train_steps_total", "Optimiser steps of this process");
  metrics->draws_ = counter("latticed_train_draws_total",
                            "Configurations drawn by this process");
  metrics->non_finite_ = counter("latticed_train_nonfinite_draws_total",
                                 "Draws with a non-finite log weight");
  metrics->published_ = counter("latticed_train_published_versions_total",
                                "Versions published by this process");
  if (listen.empty()) return metrics;
  const auto address = ParseAddress(listen);
  if (!address.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--http_listen: ", address.status().message()));
  }
  if (!allow_remote && !IsLoopback(*address)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--http_listen is ", listen,
        ", which other machines can reach; listen on 127.0.0.1, or add "
        "--insecure_allow_remote if everyone on the network may read the "
        "training's figures"));
  }
  HttpPages pages;
  pages["/metrics"] = [registry = metrics->registry_] {
    return HttpReply{
        .type = "text/plain; version=0.0.4; charset=utf-8",
        .body = prometheus::TextSerializer().Serialize(registry->Collect())};
  };
  auto http = HttpServer::Start(*address, std::move(pages));
  if (!http.ok()) return http.status();
  metrics->address_ = Address{address->host, (*http)->port()}.Name();
  metrics->http_ = *std::move(http);
  return metrics;
}

void TrainerMetrics::Report(const ProgressReport& report, uint64_t draws) {
  SetFinite(loss_, report.loss);
  SetFinite(ess_, report.ess);
  SetFinite(sigma2_, report.sigma2_per_site);
  SetFinite(gradient_norm_, report.gradient_norm);
  SetFinite(learning_rate_, report.learning_rate);
  // A resumed run starts counting where this process does.
  if (last_step_ >= 0) {
    steps_->Increment(static_cast<double>(report.step - last_step_));
    draws_->Increment(static_cast<double>(draws - last_draws_));
  }
  non_finite_->Increment(
      static_cast<double>(report.non_finite - last_non_finite_));
  last_step_ = report.step;
  last_draws_ = draws;
  last_non_finite_ = report.non_finite;
}

void TrainerMetrics::Published(double ess) {
  SetFinite(published_ess_, ess);
  published_->Increment();
}

}  // namespace latticed
