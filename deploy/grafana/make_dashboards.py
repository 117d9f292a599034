#!/usr/bin/python3
"""The Grafana dashboards in dashboards/: what they show is written here.

usage: make_dashboards.py          writes them
       make_dashboards.py --check  exits 1 if the files say something else

Ratios are ratios of sums over replicas, as in ../prometheus/latticed.rules.yml,
whose recorded series are used where there are any. A panel's number is part of
links to it: a new panel gets a new one.
"""

import json
import os
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dashboards")
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# What the variables at the top of a dashboard select.
SERVER = 'job="$job", instance=~"$instance"'
MODELS = SERVER + ', model=~"$model"'  # on some servers
MODEL = 'job="$job", model="$model"'  # one, on all servers
TRAINER = 'job="$job", model=~"$model"'
ESS = "model:latticed_ess_per_sample:ratio_increase15m"
ACCEPTANCE = "model:latticed_accepted_per_proposed:ratio_rate10m"
UP = [{"type": "value", "options": {"0": {"text": "down", "index": 0},
                                    "1": {"text": "up", "index": 1}}}]


# Queries: PromQL and what its lines are called.

def rate(family, by, selector=SERVER, window="$__rate_interval"):
    return f"sum by ({by}) (rate({family}{{{selector}}}[{window}]))"


def increase(family, by, selector=SERVER, window="10m"):
    """The window of the alerts about it."""
    return f"sum by ({by}) (increase({family}{{{selector}}}[{window}]))"


def quantile(q, family, by="", selector=SERVER, window="$__rate_interval"):
    labels = "le" + (", " + by if by else "")
    return (f"histogram_quantile({q}, "
            f"{rate(family + '_bucket', labels, selector, window)})")


def quantiles(family, *values, **rest):
    return [(quantile(q, family, **rest), f"{100 * q:g} %") for q in values]


def of_live(family):
    """Of the live version of one model, whatever its number."""
    return (f"max({family}{{{MODEL}}} * on (job, instance, model, version) "
            f'latticed_model_info{{{MODEL}, slot="live"}})')


# Panels. `width` is of 24.

def panel(kind, number, title, text, queries, width, height, options,
          defaults, overrides=(), **of_query):
    return {
        "id": number, "type": kind, "title": title, "description": text,
        "datasource": DATASOURCE, "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": [{"refId": chr(ord("A") + i), "datasource": DATASOURCE,
                     "editorMode": "code", "expr": expression,
                     "legendFormat": legend, **of_query}
                    for i, (expression, legend) in enumerate(queries)]}


def thresholds(bad, below):
    """Red from `bad` on, or below it. None: nothing is bad by itself."""
    steps = [{"color": "red" if below else "green", "value": None}]
    if bad is not None:
        steps.append({"color": "green" if below else "red", "value": bad})
    return {"mode": "absolute", "steps": steps}


def lines(number, title, unit, text, *queries, width=8, bad=None, below=False,
          zero=True, logarithmic=False, overrides=()):
    """Over time, with a dashed line where it gets bad. `zero`: the axis begins
    there."""
    custom = {"fillOpacity": 0 if overrides else 10, "showPoints": "never"}
    if bad is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
    if logarithmic:
        custom["scaleDistribution"] = {"type": "log", "log": 10}
    defaults = {"unit": unit, "custom": custom,
                "color": {"mode": "palette-classic"},
                "thresholds": thresholds(bad, below)}
    if zero:
        defaults["min"] = 0
    return panel(
        "timeseries", number, title, text, queries, width, 8,
        {"legend": {"displayMode": "list", "placement": "bottom",
                    "showLegend": True, "calcs": []},
         "tooltip": {"mode": "multi", "sort": "desc"}},
        defaults, overrides, range=True, instant=False)


def stat(number, title, unit, text, query, width=6, bad=None, below=False,
         **defaults):
    """The value now."""
    return panel(
        "stat", number, title, text, [query], width, 4,
        {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "",
                           "values": False},
         "colorMode": "value", "graphMode": "none", "justifyMode": "auto",
         "orientation": "auto", "textMode": "value_and_name"},
        {"unit": unit, "color": {"mode": "thresholds"},
         "thresholds": thresholds(bad, below), **defaults},
        range=False, instant=True)


def heatmap(number, title, text, query, width=8):
    """Of a histogram's buckets; colours are draws a second."""
    return panel(
        "heatmap", number, title, text, [query], width, 8,
        {"calculate": False, "cellGap": 1,
         "color": {"mode": "scheme", "scheme": "Oranges", "fill": "dark-orange",
                   "scale": "exponential", "exponent": 0.5, "steps": 64,
                   "reverse": False},
         "cellValues": {"unit": "cps"},
         "exemplars": {"color": "rgba(255,0,255,0.7)"},
         "filterValues": {"le": 1e-9},
         "legend": {"show": True},
         "rowsFrame": {"layout": "auto"},
         "tooltip": {"mode": "single", "show": True, "yHistogram": True},
         "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "none"}},
        {"custom": {"hideFrom": {"legend": False, "tooltip": False,
                                 "viz": False},
                    "scaleDistribution": {"type": "linear"}}},
        format="heatmap", range=True, instant=False)


def table(number, title, text, query, columns, width=12):
    """The labels `columns` of what there is now."""
    made = panel(
        "table", number, title, text, [(query, "")], width, 8,
        {"showHeader": True, "cellHeight": "sm"},
        {"custom": {"align": "auto", "cellOptions": {"type": "auto"}}},
        format="table", range=False, instant=True)
    made["transformations"] = [{"id": "filterFieldsByName", "options": {
        "include": {"names": columns}}}, {"id": "organize", "options": {
            "indexByName": {name: i for i, name in enumerate(columns)},
            "excludeByName": {}, "renameByName": {}}}]
    return made


def band(top, bottom):
    """The area between two lines."""
    return [
        {"matcher": {"id": "byName", "options": top}, "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": "green"}},
            {"id": "custom.fillBelowTo", "value": bottom},
            {"id": "custom.fillOpacity", "value": 20}]},
        {"matcher": {"id": "byName", "options": bottom}, "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}}]}]


# Dashboards.

def variable(name, label, family, selector="", everything=False):
    """The values of a label. `everything`: any number of them, at first all."""
    series = f"{family}{{{selector}}}" if selector else family
    query = f"label_values({series}, {name})"
    made = {
        "type": "query", "name": name, "label": label,
        "datasource": DATASOURCE, "definition": query,
        "query": {"qryType": 1, "query": query,
                  "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,  # when the time range changes
        "regex": "", "sort": 1, "hide": 0, "skipUrlSync": False, "options": [],
        "multi": everything, "includeAll": everything, "current": {}}
    if everything:
        made["allValue"] = ".+"  # those that are new as well
        made["current"] = {"selected": True, "text": ["All"],
                           "value": ["$__all"]}
    return made


def annotation(name, colour, expression, title, text, tags, **rest):
    return {"name": name, "datasource": DATASOURCE, "enable": True,
            "iconColor": colour, "expr": expression, "step": "30s",
            "titleFormat": title, "textFormat": text, "tagKeys": tags, **rest}


def alerts(selector):
    return annotation(
        "Alerts", "red", 'ALERTS{alertstate="firing", '
        f'alertname=~"Latticed.+", {selector}}}', "{{alertname}}",
        "{{instance}} {{model}}", "severity")


def dashboard(uid, title, text, hours, variables, annotations, *rows):
    """`rows`: (number, title, panels); panels go from left to right."""
    panels = []
    y = 0
    for number, row_title, row_panels in rows:
        panels.append({"id": number, "type": "row", "title": row_title,
                       "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        x = height = 0
        for one in row_panels:
            if x + one["gridPos"]["w"] > 24:
                x, y, height = 0, y + height, 0
            one["gridPos"].update(x=x, y=y)
            x += one["gridPos"]["w"]
            height = max(height, one["gridPos"]["h"])
            panels.append(one)
        y += height
    return {
        "uid": uid, "id": None, "title": title, "description": text,
        "tags": ["latticed"],
        # That of Grafana 10.0; later ones bring it up to theirs when they
        # read it.
        "schemaVersion": 38,
        # What is changed in the browser cannot be saved (see provisioning/):
        # do not offer it. Explore is there for trying queries.
        "editable": False,
        "graphTooltip": 1,  # one crosshair for all panels
        "timezone": "browser", "refresh": "30s",
        "time": {"from": f"now-{hours}h", "to": "now"},
        "links": [{"title": "Latticed", "type": "dashboards",
                   "tags": ["latticed"], "keepTime": True, "asDropdown": False,
                   "includeVars": False, "targetBlank": False, "icon": "",
                   "tooltip": "", "url": ""}],
        "annotations": {"list": annotations},
        "templating": {"list": [
            {"type": "datasource", "name": "datasource", "label": "Prometheus",
             "query": "prometheus", "regex": "", "refresh": 1, "hide": 0,
             "skipUrlSync": False, "options": [], "multi": False,
             "includeAll": False,
             "current": {"selected": True, "text": "Prometheus of latticed",
                         "value": "latticed-prometheus"}},
            *variables]},
        "panels": panels}


def server():
    return dashboard(
        "latticed-server", "Latticed: server",
        "Is it up, how fast is it, who waits for whom.", 6,
        [variable("job", "Job", "latticed_build_info"),
         # Of a server that is down, too.
         variable("instance", "Server", "up", 'job="$job"', everything=True),
         variable("model", "Model", "latticed_configurations_generated_total",
                  'job="$job"', everything=True)],
        [alerts('job="$job"')],
        (100, "Service", [
            stat(101, "Servers", "none",
                 "Down: Prometheus cannot scrape it. Start it; its clients "
                 "resume by themselves. Alert: LatticedDown.",
                 (f"up{{{SERVER}}}", "{{instance}}"), bad=1, below=True,
                 mappings=UP),
            stat(102, "Running for", "s",
                 "Short again and again: the process ends. The last lines of "
                 "its log before each start say why. Alert: LatticedRestarts.",
                 (f"time() - process_start_time_seconds{{{SERVER}}}",
                  "{{instance}}"), bad=600, below=True),
            stat(103, "Models served", "none",
                 "A server without any refuses all draws: its log says which "
                 "versions it did not take and why. Alert: "
                 "LatticedNothingLive.",
                 (f'count by (instance) (latticed_model_info{{{SERVER}, '
                  'slot="live"})', "{{instance}}"), bad=1, below=True,
                 noValue="none"),
            stat(104, "Alerts that fire", "none",
                 "What each one means and what to do is in docs/operations.md.",
                 ('count by (alertname) (ALERTS{alertstate="firing", '
                  'alertname=~"Latticed.+", job="$job"})', "{{alertname}}"),
                 bad=1, noValue="none"),
            lines(105, "Calls", "reqps", "Calls that arrive, by method.",
                  (rate("latticed_rpc_started_total", "method"), "{{method}}")),
            lines(106, "Share of calls that failed", "percentunit",
                  "Through no fault of the caller, over all servers of the "
                  "job. Look at the outcomes beside it: UNAVAILABLE is under "
                  "\"Calls turned away\", INTERNAL and DATA_LOSS in the log. "
                  "The queue is full: add replicas. Alert: "
                  "LatticedErrorRatioHigh.",
                  ('service:latticed_rpc_errors_per_completed:ratio_rate5m'
                   '{job="$job"}', "{{service}}"),
                  ('job:latticed_rpc_queue_full_per_completed:ratio_rate5m'
                   '{job="$job"}', "queue full"), bad=0.01),
            lines(107, "Calls by outcome", "reqps",
                  "CANCELLED and INVALID_ARGUMENT are the clients' doing; for "
                  "the others see the error table in docs/operations.md.",
                  (rate("latticed_rpc_completed_total", "code"), "{{code}}")),
            lines(108, "Calls open", "none",
                  "Streams count until they end. Near --calls_max further "
                  "calls are refused: add replicas.",
                  (f"sum by (method) (latticed_rpc_in_flight{{{SERVER}}})",
                   "{{method}}")),
            lines(109, "Time of a Sample call", "s",
                  "If it grows, compare \"Wait for the device\" (too many "
                  "calls) with \"Time to draw a tile\" (a slow device). The "
                  "histogram ends at 10 s.",
                  *quantiles("latticed_rpc_duration_seconds", 0.5, 0.95, 0.99,
                             selector=SERVER + ', method="Sample"')),
            lines(110, "Time to the first message of a stream, 95 %", "s",
                  "How long a client waits before draws begin to flow; causes "
                  "as for a Sample call. The histogram ends at 10 s.",
                  (quantile(0.95, "latticed_rpc_time_to_first_message_seconds",
                            by="method", selector=SERVER + ', method=~"Stream'
                            'Samples|RunChain|Measure"'), "{{method}}"))]),
        (200, "Throughput", [
            lines(201, "Configurations that clients got", "cps",
                  "A second, over all servers of the job, mean of 5 minutes. "
                  "If it falls while calls are open, look at back-pressure.",
                  ('model:latticed_configurations_delivered:rate5m{job="$job", '
                   'model=~"$model"}', "{{model}}")),
            lines(202, "Data sent", "Bps",
                  "If this is what the network carries, let clients ask for "
                  "log q and S without phi, or measure on the server.",
                  (rate("latticed_rpc_sent_bytes_total", "method"),
                   "{{method}}")),
            lines(203, "Time that the device draws", "percentunit",
                  "Near 100 % it is the limit: add replicas. Low with calls "
                  "open: clients read too slowly.",
                  (f"rate(latticed_device_busy_seconds_total{{{SERVER}}}"
                   "[$__rate_interval])", "{{instance}}")),
            lines(204, "Time to draw a tile, 95 %", "s",
                  "A step up: another version, another processor, or something "
                  "else that runs on the machine.",
                  (quantile(0.95, "latticed_tile_execution_seconds", by="model",
                            selector=MODELS), "{{model}}")),
            lines(205, "Fill of tiles", "percentunit",
                  "A tile costs the same however few draws it has. Low: many "
                  "small calls; ask for more draws at a time.",
                  (rate("latticed_tile_fill_ratio_sum", "model", MODELS) + " / "
                   + rate("latticed_tile_fill_ratio_count", "model", MODELS),
                   "{{model}}")),
            lines(206, "Draws thrown away", "percentunit",
                  "Of those drawn: their call ended before they were sent. "
                  "High: clients cancel streams instead of asking for what "
                  "they need, or --blocks_ahead is large.",
                  (rate("latticed_configurations_discarded_total", "model",
                        MODELS) + " / " +
                   rate("latticed_configurations_generated_total", "model",
                        MODELS), "{{model}}"))]),
        (300, "Back-pressure", [
            lines(301, "Queue, of its capacity", "percentunit",
                  "Full queues refuse calls with QUEUE_FULL: add replicas, or "
                  "lower --calls_per_peer_max. Alert: LatticedQueueFull.",
                  (f"latticed_queue_configurations{{{MODELS}}} / "
                   f"latticed_queue_capacity_configurations{{{MODELS}}}",
                   "{{instance}} {{model}}"), bad=0.8),
            lines(302, "Wait for the device, 95 %", "s",
                  "From when a block could be drawn until it was. Long: more "
                  "calls than the device can serve; add replicas.",
                  (quantile(0.95, "latticed_queue_wait_seconds", by="model",
                            selector=MODELS), "{{model}}")),
            lines(303, "Time of a write to a stream", "s",
                  "The clients' pace. Long: they read slowly, or the network "
                  "is slow; they are what limits their streams.",
                  *quantiles("latticed_stream_write_wait_seconds",
                             0.5, 0.95, 0.99)),
            lines(304, "How streams end", "cps",
                  "stalled: the client did not read for --stall_seconds; it "
                  "should not compute between reads. error: see the log. "
                  "Alert: LatticedStreamsStalled.",
                  (rate("latticed_streams_terminated_total", "reason"),
                   "{{reason}}"), width=12),
            lines(305, "Calls turned away", "cps",
                  "queue_full, quota: more replicas or fewer calls. draining: "
                  "the server stops. no_live_version: publish one. auth: see "
                  "Security. quota and auth are the callers' doing, the others "
                  "are part of LatticedErrorRatioHigh.",
                  (rate("latticed_rpc_rejected_total", "reason"),
                   "{{reason}}"), width=12)]),
        (400, "Machine and device", [
            lines(401, "Resident memory", "bytes",
                  "May grow with open calls up to --buffer_bytes_max, and with "
                  "models. Without end: report it with /metrics. Alert: "
                  "LatticedMemoryGrows.",
                  (f"process_resident_memory_bytes{{{SERVER}}}",
                   "{{instance}}")),
            lines(402, "Processor cores used", "none",
                  "Drawing on the CPU takes --threads of them.",
                  (f"rate(process_cpu_seconds_total{{{SERVER}}}"
                   "[$__rate_interval])", "{{instance}}")),
            lines(403, "Threads", "none",
                  "Constant once the server has warmed up; report it if not.",
                  (f"process_threads{{{SERVER}}}", "{{instance}}")),
            lines(404, "File descriptors, of the limit", "percentunit",
                  "One for each connection. Near 100 % no client can connect: "
                  "raise the limit (ulimit -n).",
                  (f"process_open_fds{{{SERVER}}} / "
                   f"process_max_fds{{{SERVER}}}", "{{instance}}"), bad=0.8),
            lines(405, "Device memory", "bytes",
                  "Of a CUDA device; empty on CPUs. free near 0: tiles may "
                  "fail with OUT_OF_MEMORY, if reserved is near allocated as "
                  "well. Serve fewer models, or nothing else on this device. "
                  "Alert: LatticedDeviceMemoryLow.",
                  (f"latticed_device_memory_bytes{{{SERVER}}}",
                   "{{instance}} {{kind}}")),
            lines(406, "Failures of the device, in 10 minutes", "none",
                  "Without memory the call fails. After a lost device the "
                  "server ends within seconds, mostly before it is scraped "
                  "here: look at \"Running for\" and at its log. Alert: "
                  "LatticedDeviceError.",
                  (increase("latticed_device_errors_total", "instance"),
                   "{{instance}} lost"),
                  (increase("latticed_device_oom_total", "instance"),
                   "{{instance}} out of memory"), bad=1),
            lines(407, "Log lines, in 10 minutes", "none",
                  "Read them if there are errors.",
                  (increase("latticed_log_messages_total", "level"),
                   "{{level}}")),
            lines(408, "Values that no metric took, in 10 minutes", "none",
                  "Values that are not finite would spoil a metric for good. "
                  "Any: look at \"Draws that are not finite\" of the physics "
                  "dashboard, and report it.",
                  (increase("latticed_dropped_observations_total", "instance"),
                   "{{instance}}"), bad=1),
            lines(409, "Series exported", "none",
                  "Grows with the models. Far too many: are there models that "
                  "nobody meant to publish? Alert: LatticedScrapeLarge.",
                  (f"scrape_samples_scraped{{{SERVER}}}", "{{instance}}"),
                  bad=5000),
            table(410, "What runs",
                  "Replicas of different builds do not promise the same bytes: "
                  "bring them to one version.",
                  f"latticed_build_info{{{SERVER}}}",
                  ["instance", "version", "revision", "grpc", "torch", "cuda"],
                  width=24)]),
        (500, "Security", [
            stat(501, "Certificates expire in", "s",
                 "Write a new one over the old file: no restart is needed. "
                 "Empty without TLS. Alert: LatticedCertificateExpires.",
                 (f"latticed_tls_certificate_expiry_timestamp_seconds{{{SERVER}"
                  "} - time()", "{{instance}}"), width=4, bad=14 * 86400,
                 below=True, noValue="no TLS"),
            lines(502, "Calls with wrong credentials", "cps",
                  "expired: give the client a new token. role: it may not do "
                  "what it asked for. unknown, rate_limited: somebody tries. "
                  "Alert: LatticedAuthFailures.",
                  (rate("latticed_auth_failures_total", "reason"),
                   "{{reason}}"), width=10, bad=0.1),
            lines(503, "New certificates and token files, in an hour", "none",
                  "refused: the file is not valid and the old one is still "
                  "used; the log says what is wrong with it. Alert: "
                  "LatticedCredentialsRefused.",
                  (increase("latticed_credential_reloads_total", "file, result",
                            window="1h"), "{{file}} {{result}}"), width=10)]))


def physics():
    gate_ess = "latticed_model_gate_ess_ratio"
    gate_acceptance = "latticed_model_gate_acceptance_ratio"
    published_ess = "latticed_model_published_ess_ratio"
    published_acceptance = "latticed_model_published_acceptance_ratio"

    def against_the_gate(recorded, gate, published):
        return [(f"{recorded}{{{MODEL}}}", "now"),
                (of_live(gate), "at the gate"),
                ("0.7 * " + of_live(gate), "0.7 of the gate"),
                (of_live(published), "at the trainer's")]

    return dashboard(
        "latticed-physics", "Latticed: physics",
        "Are the draws as good as they were when the version was taken. Over "
        "all servers of the job.", 24,
        [variable("job", "Job", "latticed_build_info"),
         variable("model", "Model", "latticed_configurations_generated_total",
                  'job="$job"')],
        [alerts('job="$job", model="$model"'),
         annotation("Versions", "blue",
                    f'1000 * max by (model) (latticed_model_live_timestamp_'
                    f'seconds{{{MODEL}, slot="live"}})', "{{model}}",
                    "a version went live", "", useValueForTime=True)],
        (100, "All models", [
            lines(101, "ESS per draw, of the gate's", "percentunit",
                  "1: production draws are as good as those of the gate. Below "
                  "0.7 reweighted results have larger errors than they say: go "
                  "back to the version before. Alert: LatticedEssBelowGate.",
                  (f'{ESS}{{job="$job"}} / max without (instance, pod) '
                   f'({gate_ess}{{job="$job"}})',
                   "{{model}} {{version}}"), bad=0.7, below=True),
            lines(102, "Acceptance, of the gate's", "percentunit",
                  "Below 0.7 chains stand still for longer than they should: "
                  "go back to the version before. Empty without chains. Alert: "
                  "LatticedAcceptanceBelowGate.",
                  (f'{ACCEPTANCE}{{job="$job"}} / min without '
                   f'(instance, pod, version) ({gate_acceptance}'
                   '{job="$job"})', "{{model}}"), bad=0.7, below=True),
            lines(103, "Draws that are not finite, in 10 minutes", "none",
                  "They are not sent, and the version is taken back if there "
                  "is one before it. If it is still live, roll back or "
                  "quarantine it, and look at its training. Alert: "
                  "LatticedNonFinite.",
                  (increase("latticed_nonfinite_values_total", "model, kind",
                            'job="$job"'), "{{model}} {{kind}}"), bad=1)]),
        (200, "$model: draws", [
            lines(201, "ESS per draw", "percentunit",
                  "(sum w)^2 / (n sum w^2) over 15 minutes. Below the band: "
                  "the flow misses part of the distribution that the gate did "
                  "not see; roll back, and run latticed-train reference so "
                  "that the gate sees more. Alert: LatticedEssBelowGate.",
                  *against_the_gate(ESS, gate_ess, published_ess), width=12,
                  overrides=band("at the gate", "0.7 of the gate")),
            lines(202, "Acceptance of chains", "percentunit",
                  "Of independence Metropolis, over 10 minutes. Below the "
                  "band: as for ESS. Empty without chains. Alert: "
                  "LatticedAcceptanceBelowGate.",
                  *against_the_gate(ACCEPTANCE, gate_acceptance,
                                    published_acceptance), width=12,
                  overrides=band("at the gate", "0.7 of the gate")),
            heatmap(203, "log w, less the version's reference",
                    "Draws a second by log w. Narrow and around 0 is good. A "
                    "tail upwards is what lowers ESS and holds chains up; a "
                    "tail downwards only wastes draws. Those of a version at "
                    "the gate are among them.",
                    (rate("latticed_log_weight_bucket", "le", MODEL), "{{le}}"),
                    width=12),
            lines(204, "Rejections in a row", "none",
                  "Of chains that were rejected at all, over 10 minutes, when "
                  "one is accepted at last. A tail that grows is a "
                  "configuration of far too large weight: use --update cluster "
                  "or hmc, train longer. The histogram ends at 4096.",
                  *quantiles("latticed_chain_rejection_run_length", 0.5, 0.99,
                             0.999, selector=MODEL, window="10m"), width=12)]),
        (300, "$model: versions", [
            lines(301, "ESS per draw, by version", "percentunit",
                  "What the trainer and the gate measured of each loaded "
                  "version. A trainer's figure far above the gate's: it "
                  "evaluated with too few draws.",
                  (f"max by (version) ({gate_ess}{{{MODEL}}})",
                   "{{version}} at the gate"),
                  (f"max by (version) ({published_ess}{{{MODEL}}})",
                   "{{version}} at the trainer's")),
            lines(302, "What became of versions, in 30 minutes", "none",
                  "rejected: damaged, unusable or worse at the gate, and the "
                  "one before it serves; latticectl models --all has the "
                  "details. rolled_back: do not publish it again. Alerts: "
                  "LatticedVersionRejected, LatticedRolledBack.",
                  (increase("latticed_model_loads_total", "result",
                            MODEL + ', result!="rejected"', "30m"),
                   "{{result}}"),
                  (increase("latticed_model_loads_total", "reason",
                            MODEL + ', result="rejected"', "30m"),
                   "rejected: {{reason}}")),
            lines(303, "Time to take a version", "s",
                  "Mean since the servers started, by phase. A gate near "
                  "--gate_seconds does not see enough draws: raise it.",
                  ("sum by (phase) (latticed_model_load_seconds_sum"
                   f"{{{MODEL}}}) / sum by (phase) "
                   f"(latticed_model_load_seconds_count{{{MODEL}}})",
                   "{{phase}}")),
            stat(304, "Live version: age since it was published", "s",
                 "Old is no fault by itself. Where a trainer publishes all the "
                 "time, an old one means that it or the gate refuses.",
                 ("time() - max by (model) (latticed_model_published_timestamp_"
                  f'seconds{{{MODEL}, slot="live"}} > 0)', "{{model}}"),
                 width=12),
            stat(305, "Live version: age since it went live", "s",
                 "On the server that took it last. Much shorter than since it "
                 "was published: that server has been started since.",
                 ("time() - max by (model) (latticed_model_live_timestamp_"
                  f'seconds{{{MODEL}, slot="live"}})', "{{model}}"),
                 width=12)]),
        (400, "Replicas and repository", [
            table(401, "Versions loaded",
                  "Every replica should have the same digest live. If not, one "
                  "of them cannot read the repository or has rejected the "
                  "version: compare latticectl models --all. Alert: "
                  "LatticedVersionSkew.",
                  'latticed_model_info{job="$job"}',
                  ["instance", "model", "version", "digest", "slot",
                   "numerics_mode"], width=16),
            lines(402, "Digests live at the same time", "none",
                  "2 for more than a few seconds: clients that do not pin a "
                  "digest get draws of either. Alert: LatticedVersionSkew.",
                  ("count by (model) (count by (model, digest) "
                   '(latticed_model_info{job="$job", slot="live"}))',
                   "{{model}}"), bad=2),
            lines(403, "Draws compared with another replica, in an hour",
                  "none",
                  "different: one stream, one digest, other bytes: broken "
                  "memory or a broken processor. The log names stream and "
                  "peer; latticectl verify says which is wrong. not compared: "
                  "the peer does not answer; the log says why. Alerts: "
                  "LatticedReplicaDisagreement, LatticedAuditsFail.",
                  (increase("latticed_replica_audits_total", "job",
                            'job="$job"', "1h"), "compared"),
                  (increase("latticed_replica_audit_mismatch_total", "job",
                            'job="$job"', "1h"), "different"),
                  (increase("latticed_replica_audit_failures_total", "job",
                            'job="$job"', "1h"), "not compared")),
            lines(404, "The repository was read before", "s",
                  "Long: the mount is gone or hangs. What is live goes on "
                  "being served; restore the mount. Alert: "
                  "LatticedRepositoryUnread.",
                  ("time() - latticed_repository_last_success_timestamp_seconds"
                   '{job="$job"}', "{{instance}}"), bad=300),
            lines(405, "Repository and state that failed, in 10 minutes",
                  "none",
                  "state: its directory is full or read-only; make room, or a "
                  "restart forgets quarantines. Others: the log names the "
                  "file. Alerts: LatticedStateUnwritten, "
                  "LatticedRepositoryErrors, LatticedReferenceUnusable.",
                  (increase("latticed_repository_errors_total", "kind",
                            'job="$job"'), "{{kind}}"), bad=1)]))


def trainer():
    def each(family):
        return f"{family}{{{TRAINER}}}"

    def a_second(family):
        return f"rate({each(family)}[$__rate_interval])"

    name = "{{model}} {{instance}}"
    return dashboard(
        "latticed-trainer", "Latticed: trainer",
        "Does a training get anywhere, and how fast. latticed-train "
        "--http_listen.", 6,
        [variable("job", "Job", "latticed_train_steps_total"),
         variable("model", "Model", "latticed_train_steps_total", 'job="$job"',
                  everything=True)],
        [],
        (100, "Quality", [
            lines(101, "ESS per draw", "percentunit",
                  "Of the draws since the last report, and, published, of "
                  "held-out ones of the last version. It rises, and jumps "
                  "about less and less. A fall for long: the training broke; "
                  "lower the learning rate or raise adam_epsilon.",
                  (each("latticed_train_ess_ratio"), name),
                  (each("latticed_train_published_ess_ratio"),
                   name + " published"), width=12),
            lines(102, "Loss", "none",
                  "Mean of log q + S, which falls towards - log Z. Draws are "
                  "the flow's own: it does not rise when the flow misses a "
                  "mode, only the gate's reference shows that.",
                  (each("latticed_train_loss"), name), width=12, zero=False),
            lines(103, "Variance of log w per site", "none",
                  "Falls as the training goes on; ESS per draw is about "
                  "exp(-variance) of the whole lattice. On a plateau far from "
                  "the end the flow has no more to give: a larger one.",
                  (each("latticed_train_log_weight_variance_per_site"), name),
                  zero=False, logarithmic=True),
            lines(104, "Gradient norm", "none",
                  "Before clipping. If it stays above clip_norm every step is "
                  "clipped: lower the learning rate.",
                  (each("latticed_train_gradient_norm"), name), zero=False,
                  logarithmic=True),
            lines(105, "Learning rate", "none",
                  "Up in the warm-up, then a cosine down to its end.",
                  (each("latticed_train_learning_rate"), name), zero=False,
                  logarithmic=True)]),
        (200, "Progress", [
            stat(201, "Trainers", "none",
                 "Down: it ended or was stopped. The same command goes on from "
                 "where it was.",
                 ('up{job="$job"}', "{{instance}}"), width=8, bad=1,
                 below=True,
                 mappings=UP),
            stat(202, "Steps of this process", "none",
                 "A resumed training counts from where it was resumed.",
                 (each("latticed_train_steps_total"), name), width=8),
            stat(203, "Versions published", "none",
                 "None for long: what is evaluated is not better than what is "
                 "published.",
                 (each("latticed_train_published_versions_total"), name),
                 width=8),
            lines(204, "Steps", "cps",
                  "0: it evaluates or writes its state, or it hangs. Slower "
                  "than before: a later phase with a larger batch, or "
                  "something else on the machine.",
                  (a_second("latticed_train_steps_total"), name)),
            lines(205, "Configurations drawn", "cps",
                  "Steps times batch: the same for all phases, if the machine "
                  "does nothing else.",
                  (a_second("latticed_train_draws_total"), name)),
            lines(206, "Draws that are not finite, in 10 minutes", "none",
                  "A step with any of them is skipped. Some at the start are "
                  "harmless; if they go on, lower the learning rate.",
                  (increase("latticed_train_nonfinite_draws_total",
                            "model, instance", TRAINER), name), bad=1)]))


def files():
    """Text by path."""
    return {os.path.join(FOLDER, name + ".json"):
            json.dumps(made(), indent=1) + "\n"
            for name, made in (("server", server), ("physics", physics),
                               ("trainer", trainer))}


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    made = files()
    if not sys.argv[1:]:
        for path, text in made.items():
            with open(path, "w") as file:
                file.write(text)
        return
    there = {}
    for name in os.listdir(FOLDER):
        with open(os.path.join(FOLDER, name)) as file:
            there[os.path.join(FOLDER, name)] = file.read()
    if there != made:
        sys.exit("deploy/grafana/dashboards is not what make_dashboards.py "
                 "makes: run it")


if __name__ == "__main__":
    main()
