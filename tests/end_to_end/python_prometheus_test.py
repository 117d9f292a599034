#!/usr/bin/python3
"""The rules of deploy/prometheus, and a real Prometheus that scrapes real
servers while clients draw and run chains: what its rules say is what the
clients computed from the same draws."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy

import python_faults
from python_faults import LONG, FaultTest, figure, live_digest, metrics, until
from python_server import Server, connect, train

SCRAPE_SECONDS = 2
# A processor has no memory of its own.
GPU = {"latticed_device_memory_bytes"}
ESS = "model:latticed_ess_per_sample:ratio_increase15m"
ACCEPTANCE = "model:latticed_accepted_per_proposed:ratio_rate10m"


def page(server):
    with urllib.request.urlopen(f"http://{server.http}/metrics",
                                timeout=30) as reply:
        return reply.read().decode()


class Prometheus:
    def __init__(self, program, folder, rules, jobs):
        """`jobs`: targets by name."""
        os.makedirs(folder)
        with open(rules) as file:
            text = file.read()
        assert "interval: 30s" in text
        with open(os.path.join(folder, "rules.yml"), "w") as file:
            file.write(text.replace("interval: 30s", "interval: 1s"))
        with open(os.path.join(folder, "prometheus.yml"), "w") as file:
            json.dump({
                "global": {"scrape_interval": f"{int(1000 * SCRAPE_SECONDS)}ms",
                           # As long as there is: one that is missed marks
                           # every series of the target as gone.
                           "scrape_timeout":
                               f"{int(1000 * SCRAPE_SECONDS) - 100}ms",
                           "evaluation_interval": "1s"},
                "rule_files": ["rules.yml"],
                "scrape_configs": [
                    {"job_name": name, "static_configs": [{"targets": targets}]}
                    for name, targets in jobs.items()]}, file)  # JSON is YAML
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = open(os.path.join(folder, "log"), "w")
        self.process = subprocess.Popen(
            [program, f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.address}"],
            stdout=self.log, stderr=self.log)

    def query(self, expression):
        """Values by labels, sorted pairs without the name."""
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode(
            {"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise AssertionError(f"{expression}: {error.read()}") from error
            return {}  # it is starting
        except OSError:
            return {}
        return {tuple(sorted((k, v) for k, v in one["metric"].items()
                             if k != "__name__")): float(one["value"][1])
                for one in answer["data"]["result"]}

    def value(self, expression):
        found = list(self.query(expression).values())
        assert len(found) <= 1, found
        return found[0] if found else None

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Draws:
    """Sums over the log weights of draws, as the metrics have them but for the
    reference weight: the first one here."""

    def __init__(self):
        self.reference = None
        self.n = self.sum = self.squares = 0

    def add(self, log_w):
        if self.reference is None:
            self.reference = log_w[0]
        w = numpy.exp(log_w - self.reference)
        self.n += len(w)
        self.sum += w.sum()
        self.squares += (w * w).sum()

    def scaled(self, other, factor):
        """This plus `factor` times `other`."""
        both = Draws()
        both.reference = self.reference
        w = numpy.exp(other.reference - self.reference)
        both.n = self.n + factor * other.n
        both.sum = self.sum + factor * w * other.sum
        both.squares = self.squares + factor * w * w * other.squares
        return both

    def ess(self):
        return self.sum**2 / (self.n * self.squares)


class Client:
    """Draws streams of model tiny and runs chains of model walk, over and over,
    until `ending`."""

    def __init__(self, address, ending, chains):
        self.channel = connect(
            address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.ending = ending
        self.draws = Draws()
        self.steps = self.accepted = 0
        self.failure = None
        self.thread = threading.Thread(
            target=self.run, args=(self.chain if chains else self.sample,))
        self.thread.start()

    def run(self, once):
        try:
            while not self.ending.is_set():
                once()
        except Exception as error:  # for `end`
            self.failure = error

    def sample(self):
        from latticed.v1 import sampler_pb2 as pb
        from latticed.v1 import sampler_pb2_grpc
        for message in sampler_pb2_grpc.SamplerServiceStub(
                self.channel).StreamSamples(pb.StreamSamplesRequest(
                    model=pb.ModelSelector(model="tiny"), count=1000,
                    block_bytes_max=1 << 16)):
            if message.WhichOneof("kind") == "block":
                log_q = numpy.frombuffer(message.block.log_q, "<f8")
                action = numpy.frombuffer(message.block.action, "<f8")
                self.draws.add(-action - log_q)

    def chain(self):
        from latticed.v1 import chain_pb2 as pb
        from latticed.v1 import chain_pb2_grpc, sampler_pb2
        for message in chain_pb2_grpc.ChainServiceStub(self.channel).RunChain(
                pb.RunChainRequest(steps=1000, chain=pb.ChainStart(
                    model=sampler_pb2.ModelSelector(model="walk")))):
            if message.WhichOneof("kind") == "block":
                self.steps += message.block.steps
                self.accepted += message.block.accepted

    def end(self):
        self.thread.join()
        self.channel.close()
        if self.failure:
            raise self.failure


class Rules(FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rules = os.path.join(cls.arguments.rules, "latticed.rules.yml")
        trained = cls.path("trained")
        train(cls.arguments.train, trained)
        cls.repository = cls.path("models")
        for model in ("tiny", "walk"):
            subprocess.run([cls.arguments.publish_again, trained, "tiny", "1",
                            cls.repository, model], check=True)
        cls.servers = []
        for _ in range(2):
            server = Server(cls.arguments.latticed, repository=cls.repository,
                            flags=("--gate_draws", "8192", "--poll_seconds",
                                   "0.2"))
            cls.addClassCleanup(server.stop)
            cls.servers.append(server)
        for server in cls.servers:
            until(lambda: len([s for s in metrics(server) if s.startswith(
                "latticed_model_gate_ess_ratio{")]) == 2, "both gates", 300)

    def promtool(self, *words, text=None):
        done = subprocess.run([self.arguments.promtool, *words], input=text,
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_1_promtool(self):
        self.promtool("check", "rules", self.rules)
        self.promtool("check", "config",
                      os.path.join(self.arguments.rules, "prometheus.yml"))
        self.promtool("test", "rules",
                      os.path.join(self.arguments.rules,
                                   "latticed.rules_test.yml"))

    def test_1_every_alert_is_tested_to_fire_and_not_to(self):
        with open(self.rules) as file:
            alerts = set(re.findall(r"- alert: (\w+)", file.read()))
        self.assertGreater(len(alerts), 20)
        with open(os.path.join(self.arguments.rules,
                               "latticed.rules_test.yml")) as file:
            cases = re.findall(r"alertname: (\w+)\n +exp_alerts:( \[\])?",
                               file.read())
        self.assertEqual({name for name, none in cases if none}, alerts)
        self.assertEqual({name for name, none in cases if not none}, alerts)

    def server_with_tls(self):
        """Only it has a certificate that expires."""
        key, certificate = self.path("key.pem"), self.path("certificate.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
             certificate, "-days", "2", "-subj", "/CN=localhost"],
            check=True, capture_output=True)
        os.chmod(key, 0o600)
        server = Server(self.arguments.latticed, repository=self.repository,
                        flags=("--tls_certificate_file", certificate,
                               "--tls_key_file", key, "--gate_draws", "8192"))
        self.addCleanup(server.stop)
        until(lambda: any(s.startswith("latticed_model_gate_ess_ratio{")
                          for s in metrics(server)), "the gate", 300)
        return server

    def test_2_every_series_of_a_rule_is_exported(self):
        with open(self.rules) as file:
            text = "\n".join(line for line in file.read().splitlines()
                             if not line.lstrip().startswith("#"))
        exported = page(self.server_with_tls())
        families = set(re.findall(r"^# TYPE (\S+) ", exported, re.MULTILINE))
        series = [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels or "")))
                  for name, labels in re.findall(
                      r"^([a-z]\w*)(?:\{(.*)\})? ", exported, re.MULTILINE)]
        # Names of rules have colons, and Prometheus' own are not ours.
        named = set(re.findall(r"(?<![\w:])((?:latticed|process)_\w+)"
                               r"(?![\w:])", text)) - {"latticed_rpc_errors"}
        self.assertGreater(len(named), 15)
        self.assertEqual(named - families, GPU)
        with open(os.path.join(self.arguments.rules, "..", "..", "server",
                               "metrics_families.cc")) as file:
            text_of_families = file.read()
        for name in GPU:
            self.assertIn(f'"{name}"', text_of_families)
        # Every value that a rule selects exists, so that it is created at 0.
        selected = 0
        for name, matchers in re.findall(r"((?:latticed|process)_\w+)\{(.*?)\}",
                                         text):
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
                if label == "job" or name in GPU:  # "job" is Prometheus'
                    continue
                for value in values.split("|"):
                    self.assertTrue(
                        any(n == name and labels.get(label) == value
                            for n, labels in series), (name, label, value))
                    selected += 1
        self.assertGreater(selected, 8)

    def test_3_rules_have_the_clients_values(self):
        a, b = self.servers
        prometheus = Prometheus(
            self.arguments.prometheus, self.path("prometheus"), self.rules,
            {"latticed": [a.http], "replicas": [a.http, b.http]})
        self.addCleanup(prometheus.stop)
        # Counters are seen at zero before the first draw.
        until(lambda: list(prometheus.query(
            'latticed_importance_weight_samples_total{model="tiny"}')
            .values()) == [0, 0, 0], "the first scrapes")
        ending = threading.Event()
        self.addCleanup(ending.set)
        on_a = [Client(a.address, ending, chains=False) for _ in range(3)]
        on_b = [Client(b.address, ending, chains=False)]
        chains = [Client(a.address, ending, chains=True) for _ in range(2)]
        clients = on_a + on_b + chains
        time.sleep(60 if LONG else 6)
        until(lambda: all(max(c.draws.n, c.steps) > 1000 or c.failure
                          for c in clients), "each one has drawn")
        ending.set()
        for client in clients:
            client.end()
        drawn_a, drawn_b = Draws(), on_b[0].draws
        drawn_a.reference = on_a[0].draws.reference
        for client in on_a:
            drawn_a = drawn_a.scaled(client.draws, 1)
        steps = sum(client.steps for client in chains)
        accepted = sum(client.accepted for client in chains)
        self.assertGreater(min(drawn_a.n, drawn_b.n, steps), 1000)
        counted = 'sum by (job) (latticed_importance_weight_samples_total' \
                  '{model="tiny"})'
        until(lambda: prometheus.query(counted) ==
              {(("job", "latticed"),): drawn_a.n,
               (("job", "replicas"),): drawn_a.n + drawn_b.n},
              "Prometheus has every draw")
        until(lambda: prometheus.query(
            'sum by (job) (latticed_chain_proposals_total{model="walk"})').get(
                (("job", "latticed"),)) == steps, "and every step")
        figure(f"Prometheus counts {int(drawn_a.n + drawn_b.n)} draws and "
               f"{steps} chain steps, as the clients do")

        # One server. increase() and rate() multiply by a factor that depends
        # on the times of the scrapes alone, since every counter begins at 0
        # within the window: of a ratio nothing but rounding is left. The
        # server's sums and ours are of some 10^5 terms: 1e-9 is generous.
        def close(expression, value):
            found = prometheus.value(expression)
            return found is not None and abs(found / value - 1) < 1e-9

        ess = drawn_a.ess()
        until(lambda: close(ESS + '{job="latticed",model="tiny"}', ess),
              f"{ESS} is {ess}")
        acceptance = accepted / steps
        until(lambda: close(ACCEPTANCE + '{job="latticed",model="walk"}',
                            acceptance), f"{ACCEPTANCE} is {acceptance}")
        # The control: a draw more or less would be seen.
        self.assertFalse(close(ESS + '{job="latticed",model="tiny"}',
                               ess * (1 + 1 / drawn_a.n)))
        figure(f"Prometheus' rules and the clients: ESS per draw {ess:.6f}, "
               f"acceptance {acceptance:.6f}, equal to 1e-9")

        # Two servers, scraped at different times: each one's increases have a
        # factor of their own. increase() goes on from the last scrape to now by
        # at most 1.1 of the mean time between its n scrapes: 1 up to
        # 1 + 1.1 / (n - 1), however many it missed. n only grows: what is
        # counted here is an upper bound later. The merged ESS is that of sums
        # so weighted.
        scrapes = prometheus.query(
            "count_over_time(latticed_importance_weight_samples_total"
            '{job="replicas",model="tiny"}[15m])')
        self.assertEqual(len(scrapes), 2)
        most = 1 + 1.1 / (min(scrapes.values()) - 1)
        merged = [drawn_a.scaled(drawn_b, f).ess()
                  for f in numpy.linspace(1 / most, most, 101)]

        def between():
            found = prometheus.value(ESS + '{job="replicas",model="tiny"}')
            return found is not None and \
                min(merged) * (1 - 1e-9) < found < max(merged) * (1 + 1e-9) \
                and found

        # The rule may be from before the last scrape.
        found = until(between, f"{ESS} is in {min(merged)} to {max(merged)}")
        figure(f"over two replicas ESS per draw {found:.6f}, the clients' "
               f"{drawn_a.scaled(drawn_b, 1).ess():.6f}, bounds "
               f"{min(merged):.6f} to {max(merged):.6f}")

        # Nothing is wrong so far. Then a version that names another model
        # appears, and the server goes away.
        self.assertEqual(prometheus.query('ALERTS{alertstate="firing"}'), {})
        shutil.copytree(os.path.join(self.repository, "walk", "1"),
                        os.path.join(self.repository, "tiny", "7"))
        until(lambda: prometheus.query(
            'ALERTS{alertname="LatticedVersionRejected",alertstate="firing",'
            'job="latticed",model="tiny",reason="damaged"}'), "the alert")
        self.assertNotEqual(live_digest(a), "")
        # The page is clean after all that.
        for server in self.servers:
            self.assertEqual(self.promtool("check", "metrics",
                                           text=page(server)), "")
        a.end()
        until(lambda: prometheus.query(
            'ALERTS{alertname="LatticedDown",alertstate="pending"}'),
            "LatticedDown is pending")


if __name__ == "__main__":
    python_faults.main()
