#!/usr/bin/python3
"""The dashboards of deploy/grafana, without Grafana: a real Prometheus scrapes
real servers under load and a real trainer, and every query of every panel,
variable and annotation is sent as Grafana would send it. It must parse, name
what is exported, and return finite values."""

import copy
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import python_faults
from python_client_test import crc32c
from python_faults import LONG, FaultTest, figure, metrics, until
from python_prometheus_test import Client, Prometheus, page
from python_server import SPEC, Server, train

# Four scrapes, or more of them: a busy machine misses some.
RATE_INTERVAL = "60s" if LONG else "20s"
# Without a fault there is nothing to show.
EMPTY = {"latticed_device_memory_bytes": "a CPU has no memory of its own"}
# Of Prometheus itself.
OWN = {"up", "scrape_samples_scraped", "ALERTS"}
# Under load these are above zero.
BUSY = {
    "Latticed: server": [
        "Servers", "Running for", "Models served", "Calls", "Calls by outcome",
        "Calls open", "Time of a Sample call",
        "Time to the first message of a stream, 95 %",
        "Configurations that clients got", "Data sent",
        "Time that the device draws", "Time to draw a tile, 95 %",
        "Fill of tiles", "Wait for the device, 95 %", "Resident memory",
        "Processor cores used", "Series exported"],
    "Latticed: physics": [
        "ESS per draw, of the gate's", "Acceptance, of the gate's",
        "ESS per draw", "Acceptance of chains",
        "log w, less the version's reference", "Rejections in a row",
        "What became of versions, in 30 minutes",
        "Draws compared with another replica, in an hour"],
    "Latticed: trainer": [
        "ESS per draw", "Variance of log w per site", "Gradient norm",
        "Learning rate", "Steps", "Configurations drawn",
        "Versions published"]}


def grafana(*names):
    return os.path.join(FaultTest.arguments.rules, "..", "grafana", *names)


def dashboards():
    loaded = []
    for name in sorted(os.listdir(grafana("dashboards"))):
        with open(grafana("dashboards", name)) as file:
            loaded.append(json.load(file))
    return loaded


def panels(dashboard):
    return [p for p in dashboard["panels"] if p["type"] != "row"]


def selectors(expression):
    """The families that PromQL names, each with its matchers or None."""
    text = re.sub(r"\[[^\]]*\]", "", expression)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*"
                  r"\([^)]*\)", " ", text)
    outside = re.sub(r'\{[^}]*\}|"[^"]*"', lambda m: "#" * len(m[0]), text)
    found = []
    for match in re.finditer(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?![\w:])(?!\s*\()",
                             outside):
        matchers = re.match(r"\{([^}]*)\}", text[match.end():])
        if match[0] not in ("and", "or", "unless", "bool", "offset"):
            found.append((match[0], matchers and matchers[1]))
    return found


def structure(dashboard):
    """What is wrong with a dashboard as such."""
    faults = []
    if not re.fullmatch(r"[a-z-]{1,40}", dashboard["uid"]) or \
            dashboard["id"] is not None:
        faults.append("the uid is what identifies it, not the id")
    if dashboard["schemaVersion"] != 38:
        faults.append("not Grafana 10.0's version")
    numbers = [p["id"] for p in dashboard["panels"]]
    if len(set(numbers)) != len(numbers):
        faults.append("two panels have one number")
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]),
                                      range(at["y"], at["y"] + at["h"])))
        if at["x"] + at["w"] > 24 or cells & taken:
            faults.append(f"{panel['title']}: lies over another one")
        taken |= cells
    titles = [p["title"] for p in panels(dashboard)]
    if len(set(titles)) != len(titles):
        faults.append("two panels have one title")
    variables = {v["name"] for v in dashboard["templating"]["list"]}
    for panel in panels(dashboard):
        title = panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        unit = panel["options"].get("yAxis", defaults).get("unit")
        if not title or not panel["description"].endswith("."):
            faults.append(f"{title}: no description")
        if panel["type"] not in ("timeseries", "stat", "table", "heatmap"):
            faults.append(f"{title}: a {panel['type']}")
        if panel["type"] != "table" and not unit:
            faults.append(f"{title}: no unit")
        legends = [t["legendFormat"] for t in panel["targets"]]
        if panel["type"] != "table" and not all(legends):
            faults.append(f"{title}: a line without a name")
        for override in panel["fieldConfig"]["overrides"]:
            named = [override["matcher"]["options"]] + [
                p["value"] for p in override["properties"]
                if p["id"] == "custom.fillBelowTo"]
            if not set(named) <= set(legends):
                faults.append(f"{title}: {named} is not among {legends}")
        for one in [panel, *panel["targets"]]:
            if one["datasource"] != {"type": "prometheus",
                                     "uid": "${datasource}"}:
                faults.append(f"{title}: its own data source")
    for where, _, expression, _ in expressions(dashboard):
        if "vector(" in expression:
            faults.append(f"{where}: a value that nobody exported")
        for family, matchers in selectors(expression):
            if 'job="$job"' not in (matchers or ""):
                faults.append(f"{where}: {family} of any job")
        if re.search(r'(job|model|instance)=~?"[^$]', expression):
            faults.append(f"{where}: a job, model or instance by name")
        if not set(re.findall(r"\$(\w+)", expression)) <= \
                variables | {"__rate_interval"}:
            faults.append(f"{where}: an unknown variable")
    return faults


def expressions(dashboard):
    """(where, kind, PromQL, legend) of panels and annotations."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield (f"{dashboard['title']}/{panel['title']}",
                   "now" if target["instant"] else "range", target["expr"],
                   target["legendFormat"])
    for one in dashboard["annotations"]["list"]:
        yield (f"{dashboard['title']}/{one['name']}", "range", one["expr"],
               one["titleFormat"])


def with_values(expression, values):
    """As Grafana replaces variables."""
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)


def ask(prometheus, path, parameters):
    """What Prometheus' HTTP API answers; ValueError if it refuses."""
    url = f"http://{prometheus.address}/api/v1/{path}?" + \
        urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return json.load(reply)["data"]
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error)["error"]) from error


def series(prometheus, kind, expression):
    """(labels, values) of each series, now or over the last seconds."""
    if kind == "now":
        found = ask(prometheus, "query", {"query": expression})["result"]
        return [(one["metric"], [float(one["value"][1])]) for one in found]
    now = time.time()
    found = ask(prometheus, "query_range", {
        "query": expression, "start": now - 5, "end": now, "step": 1})["result"]
    return [(one["metric"], [float(value) for _, value in one["values"]])
            for one in found]


def answers(dashboard, prometheus, values, known):
    """What is wrong with what Prometheus answers; `known` is exported or
    recorded."""
    faults = []
    largest = {}  # value of a panel
    for where, kind, expression, legend in expressions(dashboard):
        named = {family for family, _ in selectors(expression)}
        if named - known - OWN - set(EMPTY):
            faults.append(f"{where}: there is no "
                          f"{named - known - OWN - set(EMPTY)}")
        try:
            found = series(prometheus, kind, with_values(expression, values))
            other = series(prometheus, kind,
                           with_values(expression, {**values, "job": "other"}))
        except ValueError as error:
            faults.append(f"{where}: {error}")
            continue
        if bool(found) == bool(named & set(EMPTY)):
            faults.append(f"{where}: {len(found)} series")
        if other:
            faults.append(f"{where}: the same for any job")
        for labels, numbers in found:
            if not all(map(math.isfinite, numbers)):
                faults.append(f"{where}: {labels} is {numbers}")
            if not set(re.findall(r"\{\{(\w+)\}\}", legend)) <= set(labels):
                # An alert is about what its labels say.
                if "ALERTS" not in named:
                    faults.append(f"{where}: {labels} as {legend}")
        largest[where] = max([largest.get(where, 0)] + [
            number for _, numbers in found for number in numbers])
    for title in BUSY[dashboard["title"]]:
        if largest.get(f"{dashboard['title']}/{title}") == 0:
            faults.append(f"{title}: nothing but zeros")
    return faults


class Files(unittest.TestCase):
    def test_they_are_what_the_program_writes(self):
        subprocess.run([sys.executable, grafana("make_dashboards.py"),
                        "--check"], check=True)

    def test_structure(self):
        loaded = dashboards()
        self.assertEqual([d["title"] for d in loaded],
                         ["Latticed: physics", "Latticed: server",
                          "Latticed: trainer"])
        self.assertEqual(len({d["uid"] for d in loaded}), 3)
        for dashboard in loaded:
            self.assertEqual(structure(dashboard), [])
            titles = [p["title"] for p in panels(dashboard)]
            self.assertEqual(set(BUSY[dashboard["title"]]) - set(titles), set())

    def test_faults_of_structure_are_seen(self):
        def broken(change):
            dashboard = dashboards()[0]
            change(dashboard, panels(dashboard)[0])
            return structure(dashboard)

        def expression(text):
            def change(_, panel):
                panel["targets"][0]["expr"] = text
            return change

        for said, change in (
                ("nobody exported", expression('up{job="$job"} or vector(0)')),
                ("by name", expression('up{job="latticed"}')),
                ("of any job", expression("up")),
                ("of any job", expression('up{job="$job"} / up')),
                ("variable", expression('up{job="$job", instance="$host"}')),
                ("one number", lambda _, panel: panel.update(id=102)),
                ("one title", lambda _, panel: panel.update(
                    title="ESS per draw")),
                ("no description", lambda _, panel: panel.update(
                    description="")),
                ("over another", lambda _, panel: panel["gridPos"].update(w=9)),
                ("no unit", lambda _, panel:
                 panel["fieldConfig"]["defaults"].pop("unit")),
                ("without a name", lambda _, panel:
                 panel["targets"][0].update(legendFormat="")),
                ("data source", lambda _, panel:
                 panel.update(datasource={"uid": "mine"})),
                ("uid", lambda dashboard, _: dashboard.update(id=7))):
            self.assertIn(said, "\n".join(broken(change)))

    def test_every_alert_is_named_by_a_panel(self):
        with open(os.path.join(FaultTest.arguments.rules,
                               "latticed.rules.yml")) as file:
            alerts = set(re.findall(r"- alert: (\w+)", file.read()))
        named = {name for d in dashboards() for p in panels(d)
                 for name in re.findall(r"\bLatticed[A-Z]\w+",
                                        p["description"])}
        self.assertGreater(len(alerts), 20)
        self.assertEqual(named, alerts)

    def test_provisioning(self):
        def settings(folder):
            """Both files are short enough for this."""
            with open(grafana("provisioning", folder, "latticed.yaml")) as file:
                pairs = re.findall(r"^[ -]*(\w+): (.+)$", file.read(),
                                   re.MULTILINE)
            self.assertEqual(len(dict(pairs)), len(pairs))
            return dict(pairs)

        source, provider = settings("datasources"), settings("dashboards")
        self.assertEqual((source["apiVersion"], source["type"],
                          source["access"]), ("1", "prometheus", "proxy"))
        for dashboard in dashboards():
            variable = dashboard["templating"]["list"][0]
            self.assertEqual((variable["name"], variable["query"],
                              variable["current"]["value"]),
                             ("datasource", "prometheus", source["uid"]))
        with open(os.path.join(FaultTest.arguments.rules,
                               "prometheus.yml")) as file:
            self.assertIn(f"scrape_interval: {source['timeInterval']}\n",
                          file.read())
        self.assertEqual((provider["apiVersion"], provider["type"]),
                         ("1", "file"))
        # Where docs/operations.md has them copied to.
        with open(grafana("..", "..", "docs", "operations.md")) as file:
            text = file.read()
        self.assertIn(f"{provider['path']} deploy/grafana/dashboards/*.json\n",
                      text)
        self.assertIn("deploy/grafana/provisioning/. /etc/grafana/provisioning",
                      text)


class OtherCalls(Client):
    """Every other call that draws or streams, and a chain of model tiny."""

    def sample(self):
        from latticed.v1 import chain_pb2, chain_pb2_grpc
        from latticed.v1 import measure_pb2, measure_pb2_grpc
        from latticed.v1 import model_pb2, model_pb2_grpc
        from latticed.v1 import sampler_pb2, sampler_pb2_grpc
        tiny = sampler_pb2.ModelSelector(model="tiny")
        sampler = sampler_pb2_grpc.SamplerServiceStub(self.channel)
        drawn = sampler.Sample(sampler_pb2.SampleRequest(model=tiny, count=16))
        for _ in sampler.EvaluateLogProb(iter([
                sampler_pb2.EvaluateLogProbRequest(
                    model=tiny, phi=drawn.block.phi,
                    crc32c=crc32c(drawn.block.phi))])):
            pass
        for _ in chain_pb2_grpc.ChainServiceStub(self.channel).RunChain(
                chain_pb2.RunChainRequest(
                    steps=1000, chain=chain_pb2.ChainStart(model=tiny))):
            pass
        for _ in measure_pb2_grpc.MeasureServiceStub(self.channel).Measure(
                measure_pb2.MeasureRequest(
                    model=tiny, observable=["chi_2", "log_Z"],
                    budget=measure_pb2.MeasureBudget(draws=2048))):
            pass
        watch = model_pb2_grpc.ModelServiceStub(
            self.channel).WatchModelVersions(
                model_pb2.WatchModelVersionsRequest())
        next(watch)
        watch.cancel()


class Answers(FaultTest):
    """Two servers, of which one has a certificate that expires soon and
    compares draws with the other, a trainer, and Prometheus."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_servers()
        cls.start_trainer()
        cls.prometheus = Prometheus(
            cls.arguments.prometheus, cls.path("prometheus"),
            os.path.join(cls.arguments.rules, "latticed.rules.yml"),
            {"latticed": [s.http for s in cls.servers],
             "training": [cls.trainer_address]})
        cls.addClassCleanup(cls.prometheus.stop)
        # Counters are seen at zero before the first call.
        until(lambda: len(cls.prometheus.query(
            "latticed_importance_weight_samples_total")) == 4, "scrapes")
        cls.known = {
            name for text in (page(cls.servers[0]), page(cls.servers[1]),
                              cls.trainer_page())
            for name in re.findall(r"^(\w+)[ {]", text, re.MULTILINE)}
        with open(os.path.join(cls.arguments.rules,
                               "latticed.rules.yml")) as file:
            cls.known |= set(re.findall(r"- record: (\S+)", file.read()))
        ending = threading.Event()
        cls.clients = [Client(cls.servers[0].address, ending, chains=False),
                       Client(cls.servers[0].address, ending, chains=True),
                       OtherCalls(cls.servers[0].address, ending,
                                  chains=False)]
        cls.addClassCleanup(lambda: [c.thread.join() for c in cls.clients])
        cls.addClassCleanup(ending.set)
        # A version that names another model is rejected, which is an alert.
        shutil.copytree(os.path.join(cls.repository, "walk", "1"),
                        os.path.join(cls.repository, "tiny", "7"))
        time.sleep(120 if LONG else 30)

    @classmethod
    def start_servers(cls):
        cls.repository = cls.path("models")
        for model in ("tiny", "walk"):
            train(cls.arguments.train, cls.repository, model)
        key, certificate = cls.path("key.pem"), cls.path("certificate.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
             certificate, "-days", "2", "-subj", "/CN=localhost"],
            check=True, capture_output=True)
        os.chmod(key, 0o600)
        cls.servers = []
        for flags in (lambda: [],
                      lambda: ["--tls_certificate_file", certificate,
                               "--tls_key_file", key, "--audit_peers",
                               cls.servers[0].address, "--audit_seconds", "1"]):
            server = Server(cls.arguments.latticed, repository=cls.repository,
                            flags=("--gate_draws", "8192", "--poll_seconds",
                                   "0.2", *flags()))
            cls.addClassCleanup(server.stop)
            cls.servers.append(server)
            until(lambda: len([s for s in metrics(server) if s.startswith(
                "latticed_model_gate_ess_ratio{")]) == 2, "both gates", 300)

    @classmethod
    def start_trainer(cls):
        with open(SPEC) as file:
            text = file.read()
        # Longer than the test, with a publication now and then.
        text, n = re.subn(r"steps: 60 ", "steps: 1000000 ", text)
        assert n == 1
        spec = cls.path("spec.textproto")
        with open(spec, "w") as file:
            file.write(text + "publish_every_steps: 100\n")
        log = open(cls.path("trainer.log"), "w")
        cls.addClassCleanup(log.close)
        trainer = subprocess.Popen(
            [cls.arguments.train, "--spec", spec, "--repository",
             cls.path("training"), "--model", "tiny", "--threads", "1",
             "--http_listen", "127.0.0.1:0"], stderr=log)
        cls.addClassCleanup(trainer.wait)
        cls.addClassCleanup(trainer.terminate)

        def address():
            with open(log.name) as file:
                return re.search(r"metrics on http://([^/\s]+)", file.read())

        cls.trainer_address = until(address, "the trainer's address", 300)[1]

    @classmethod
    def trainer_page(cls):
        with urllib.request.urlopen(
                f"http://{cls.trainer_address}/metrics", timeout=30) as reply:
            return reply.read().decode()

    def values(self, dashboard):
        """As they are selected at first: all, where that is offered."""
        return {"__rate_interval": RATE_INTERVAL, "instance": ".+",
                "job": "training" if "trainer" in dashboard["uid"]
                else "latticed",
                "model": ".+" if dashboard["templating"]["list"][-1]["multi"]
                else "tiny"}

    def faults(self, expected, *arguments):
        """What `answers` finds wrong, as soon as `expected` of it is true: a
        scrape that is missed takes all of a server's series away until the
        next."""
        found = []

        def right():
            found[:] = answers(*arguments)
            return expected(found)

        try:
            until(right, "answers")
        except AssertionError:
            pass  # for the caller, who says which
        return found

    def test_1_variables_find_what_there_is(self):
        expected = {
            "Latticed: server": {
                "job": {"latticed"}, "model": {"tiny", "walk"},
                "instance": {server.http for server in self.servers}},
            "Latticed: physics": {"job": {"latticed"},
                                  "model": {"tiny", "walk"}},
            "Latticed: trainer": {"job": {"training"}, "model": {"tiny"}}}
        for dashboard in dashboards():
            found = {}
            for variable in dashboard["templating"]["list"][1:]:
                query = variable["query"]["query"]
                self.assertEqual(variable["definition"], query)
                selector, label = re.fullmatch(
                    r"label_values\((.+), (\w+)\)", query).groups()
                self.assertIn(selectors(selector)[0][0], self.known | OWN)
                found[variable["name"]] = set(ask(
                    self.prometheus, f"label/{label}/values",
                    {"match[]": with_values(selector,
                                            self.values(dashboard))}))
            self.assertEqual(found, expected[dashboard["title"]])

    def test_2_every_query_has_data(self):
        count = 0
        for dashboard in dashboards():
            for client in self.clients:
                self.assertIsNone(client.failure)
            faults = self.faults(lambda found: not found, dashboard,
                                 self.prometheus, self.values(dashboard),
                                 self.known)
            self.assertFalse(faults, "\n".join(faults))
            count += len(list(expressions(dashboard)))
        figure(f"{count} queries of {len(dashboards())} dashboards have data")
        # What is expected to be empty is a metric of ours all the same.
        with open(grafana("..", "..", "server", "metrics_families.cc")) as file:
            text = file.read()
        for name in EMPTY:
            self.assertIn(f'"{name}"', text)
            self.assertNotIn(name, self.known)

    def test_3_one_model_and_one_server(self):
        dashboard, = (d for d in dashboards() if d["uid"] == "latticed-server")
        values = {**self.values(dashboard), "model": "walk",
                  "instance": self.servers[0].http}
        # The other one has the certificate.
        expected = ["Latticed: server/Certificates expire in: 0 series"]
        self.assertEqual(
            self.faults(lambda found: found == expected, dashboard,
                        self.prometheus, values, self.known), expected)

    def test_4_a_query_that_is_wrong_is_seen(self):
        whole, = (d for d in dashboards() if d["uid"] == "latticed-server")
        whole["panels"] = [p for p in whole["panels"]
                           if p["title"] == "Calls turned away"]
        whole["annotations"]["list"] = []

        def broken(expression, expected):
            dashboard = copy.deepcopy(whole)
            dashboard["panels"][0]["targets"][0]["expr"] = expression
            return self.faults(expected, dashboard, self.prometheus,
                               self.values(dashboard), self.known)

        right = whole["panels"][0]["targets"][0]["expr"]
        self.assertEqual(broken(right, lambda found: not found), [])
        for wrong, said in (
                (right[:-1], "parse error"),
                (right.replace("rejected", "refused"), "there is no"),
                (right.replace("}", ', reason="none"}'), "0 series"),
                (f"0 * {right} / 0", "nan"),
                (right.replace("(reason)", "(job)"), " as "),
                (right.replace('job="$job"', 'job!=""'), "any job")):
            faults = broken(
                wrong, lambda found, said=said: said in "\n".join(found))
            self.assertIn(said, "\n".join(faults))
        dashboard = copy.deepcopy(whole)
        dashboard["panels"][0]["title"] = "Calls"  # none is turned away
        self.assertIn("zeros", "\n".join(self.faults(
            lambda found: "zeros" in "\n".join(found), dashboard,
            self.prometheus, self.values(dashboard), self.known)))


if __name__ == "__main__":
    python_faults.main()
