#!/usr/bin/python3
"""deploy/kubernetes: what kubectl renders has fields that there are, fits
together and fits the programs; servers answer its probes, audit each other by
its names and export what scales them. No API server is at hand."""

import argparse
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import grpc
import yaml

import documents
from kubernetes_fields import refused
from python_server import Server, connect, train

ARGUMENTS = None  # of the command line
ROOT = documents.ROOT
OVERLAYS = ("cpu", "gpu", "ha")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# Of the certificate of overlay ha, as it and docs/operations.md ask for them.
NAMES = ("latticed", "localhost", "*.latticed-replicas.latticed.svc")
# A shorter one: gRPC takes no wildcard above a single label.
SHORT = "*.latticed-replicas"


def render(overlay):
    """Objects by kind and name."""
    text = subprocess.run(
        ["kubectl", "kustomize", f"{ROOT}/deploy/kubernetes/{overlay}"],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, timeout=60).stdout
    objects = {}
    for item in yaml.safe_load_all(text):
        key = (item["kind"], item["metadata"]["name"])
        assert key not in objects, key
        objects[key] = item
    return objects


def flags_of(args):
    return dict(arg.lstrip("-").split("=", 1) if "=" in arg else
                (arg.lstrip("-"), "true") for arg in args)


def known_flags(program):
    text = subprocess.run([program, "--helpfull"], capture_output=True,
                          text=True, timeout=60).stdout
    return set(re.findall(r"^\s+--(\w+) \(", text, re.MULTILINE))


def selects(selector, labels):
    return selector.items() <= labels.items()


def check(objects, flags):
    """What is wrong with rendered objects, as sentences."""
    wrong = [what for item in objects.values() for what in refused(item)]
    if wrong:
        return wrong

    def need(fine, what):
        if not fine:
            wrong.append(what)

    server = objects["StatefulSet", "latticed"]["spec"]
    trainer = objects["Job", "latticed-train"]["spec"]
    pods = {"server": (server["template"], "latticed"),
            "trainer": (trainer["template"], "latticed-train")}
    for key, item in objects.items():
        need(item["metadata"].get("namespace") == "latticed",
             f"{key} is in no namespace")
    for name, (template, program) in pods.items():
        spec = template["spec"]
        [container] = spec["containers"]
        args = flags_of(container["args"])
        need(set(args) <= flags[program],
             f"{name}: no flags of {program}: {set(args) - flags[program]}")
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        listens = {int(value.rsplit(":", 1)[1]) for flag, value in args.items()
                   if flag.endswith("listen")}
        need(set(ports.values()) <= listens, f"{name}: ports nobody listens on")
        volumes = {v["name"] for v in spec.get("volumes", [])}
        volumes |= {c["metadata"]["name"]
                    for c in server.get("volumeClaimTemplates", [])
                    if name == "server"}
        mounts = {m["name"]: m for m in container["volumeMounts"]}
        need(set(mounts) == volumes, f"{name}: mounts {set(mounts)}, has "
             f"{volumes}")
        need(mounts["models"].get("readOnly", False) == (name == "server"),
             f"{name}: may write what it must not, or not what it must")
        paths = [m["mountPath"] for m in mounts.values()]
        for flag, value in args.items():
            if value.startswith("/") and flag != "spec":
                need(any(value == p or value.startswith(p + "/")
                         for p in paths), f"{name}: --{flag} is not mounted")
        pod, own = spec["securityContext"], container["securityContext"]
        need(pod["runAsNonRoot"] and pod["runAsUser"] > 0
             and pod["seccompProfile"]["type"] == "RuntimeDefault"
             and own["readOnlyRootFilesystem"]
             and not own["allowPrivilegeEscalation"]
             and own["capabilities"]["drop"] == ["ALL"]
             and not spec["automountServiceAccountToken"],
             f"{name}: may do more than it has to")
        need("memory" in container["resources"]["limits"],
             f"{name}: no limit of memory")

    # Bad input ends the job; anything else is tried again in a new pod.
    rule = trainer["podFailurePolicy"]["rules"][0]
    need(trainer["template"]["spec"]["restartPolicy"] == "Never"
         and trainer["backoffLimit"] > 1 and rule["action"] == "FailJob"
         and rule["onExitCodes"] == {"containerName": "latticed-train",
                                     "operator": "In", "values": [1]},
         "trainer: tries again what no try mends")
    need("ttlSecondsAfterFinished" in trainer,
         "trainer: stays, so that no other image can be applied")

    template, _ = pods["server"]
    labels = template["metadata"]["labels"]
    [container] = template["spec"]["containers"]
    args = flags_of(container["args"])
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    drain = int(args["lame_duck_seconds"]) + int(args["drain_seconds"])
    need(template["spec"]["terminationGracePeriodSeconds"] >= drain + 10,
         f"killed before it has drained for {drain} s")
    need(selects(server["selector"]["matchLabels"], labels),
         "the StatefulSet does not select its pods")
    for probe in PROBES:
        how = container[probe]
        if "grpc" in how:
            need("tls_key_file" not in args, f"{probe}: no gRPC probe has TLS")
            need(how["grpc"]["port"] == ports["grpc"], f"{probe}: wrong port")
            alive = "service" not in how["grpc"]
        else:
            [program, command, *rest] = how["exec"]["command"]
            asked = flags_of(rest)
            need((program, command) == ("latticectl", "health")
                 and set(asked) <= flags["latticectl health"],
                 f"{probe}: {how}")
            need(asked["server"] == f"localhost:{ports['grpc']}",
                 f"{probe}: wrong port")
            alive = "alive" in asked
        need(alive == (probe != "readinessProbe"),
             f"{probe}: no model restarts it, or a pod without one is ready")
    replicas = server.get("replicas", 1)
    for (kind, name), item in objects.items():
        spec = item["spec"]
        if kind == "Service":
            need(selects(spec["selector"], labels), f"{name} selects no server")
            need(spec["clusterIP"] == "None", f"{name}: balances connections")
            for port in spec["ports"]:
                need(ports.get(port["targetPort"]) == port["port"],
                     f"{name}: port {port}")
        elif kind == "PodDisruptionBudget":
            need(selects(spec["selector"]["matchLabels"], labels),
                 f"{name} protects no server")
        elif kind == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            need((target["kind"], target["name"]) in objects,
                 f"{name} scales nothing")
            need("replicas" not in server,
                 f"{name}: undone whenever the StatefulSet is applied")
            replicas = spec["minReplicas"]
        elif kind == "NetworkPolicy":
            who = [t for t, _ in pods.values() if selects(
                spec["podSelector"]["matchLabels"], t["metadata"]["labels"])]
            need(len(who) == 1, f"{name} is for {len(who)} kinds of pods")
            open_ports = {p["port"] for rule in spec["ingress"]
                          for p in rule["ports"]}
            have = {p["containerPort"] for t in who
                    for p in t["spec"]["containers"][0]["ports"]}
            need(open_ports == have, f"{name}: opens {open_ports}, not {have}")
    service = server["serviceName"]
    need(("Service", service) in objects, "replicas have no names")
    peers = args.get("audit_peers", "")
    if replicas > 1:
        need(peers.split(",") == [
            f"latticed-{i}.{service}.latticed.svc:{ports['grpc']}"
            for i in range(replicas)], f"audits {peers}")
        need(("PodDisruptionBudget", "latticed") in objects, "no budget")
    return wrong


class Kubernetes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.flags = {"latticed": known_flags(ARGUMENTS.latticed),
                     "latticed-train": known_flags(ARGUMENTS.train)}
        cls.flags["latticectl health"] = set(re.findall(
            r"^\s+--(\w+)", subprocess.run(
                [ARGUMENTS.latticectl, "health", "--help"],
                capture_output=True, text=True, timeout=60).stdout,
            re.MULTILINE))
        cls.rendered = {name: render(name) for name in OVERLAYS}
        cls.trained = tempfile.mkdtemp(prefix="latticed-kubernetes-test-")
        cls.addClassCleanup(shutil.rmtree, cls.trained)
        train(ARGUMENTS.train, cls.trained)

    def test_overlays_fit_together(self):
        for name, objects in self.rendered.items():
            with self.subTest(name):
                self.assertEqual(check(objects, self.flags), [])

    def test_what_tells_the_overlays_apart(self):
        def container(overlay):
            [one] = self.rendered[overlay]["StatefulSet", "latticed"]["spec"][
                "template"]["spec"]["containers"]
            return one

        self.assertEqual(container("cpu")["image"], "latticed:cpu")
        self.assertEqual(container("gpu")["image"], "latticed:cuda")
        self.assertEqual(
            container("gpu")["resources"]["limits"]["nvidia.com/gpu"], 1)
        args = flags_of(container("gpu")["args"])
        self.assertEqual((args["device"], args["kernel"]), ("cuda", "plain"))
        secure = flags_of(container("ha")["args"])
        for flag in ("tls_certificate_file", "token_file",
                     "chain_token_key_file", "audit_ca_file"):
            self.assertIn(flag, secure)

    def test_the_check_sees_what_is_wrong(self):
        def breaks(change, overlay="ha"):
            objects = copy.deepcopy(self.rendered[overlay])
            spec = objects["StatefulSet", "latticed"]["spec"]
            change(objects, spec, spec["template"]["spec"]["containers"][0])
            return check(objects, self.flags)

        def put(at, key, value):
            at[key] = value

        def rename(at, key, other):
            at[other] = at.pop(key)

        def job(objects):
            return objects["Job", "latticed-train"]["spec"]

        for said, change in {
                "no flags of latticed": lambda o, s, c: c["args"].append(
                    "--no_flag"),
                "killed before it has drained": lambda o, s, c: put(
                    s["template"]["spec"], "terminationGracePeriodSeconds", 20),
                "ports nobody listens on": lambda o, s, c: put(
                    c["ports"][0], "containerPort", 1),
                "may write what it must not": lambda o, s, c: [
                    put(m, "readOnly", False) for m in c["volumeMounts"]],
                "may do more than it has to": lambda o, s, c: put(
                    c["securityContext"], "readOnlyRootFilesystem", False),
                "livenessProbe: no model restarts it": lambda o, s, c: c[
                    "livenessProbe"]["exec"]["command"].remove("--alive"),
                "startupProbe: no model restarts it": lambda o, s, c: c[
                    "startupProbe"]["exec"]["command"].remove("--alive"),
                "no gRPC probe has TLS": lambda o, s, c: put(
                    c, "readinessProbe",
                    {"grpc": {"port": 7410, "service": "readiness"}}),
                "latticed selects no server": lambda o, s, c: put(
                    o["Service", "latticed"]["spec"], "selector", {"a": "b"}),
                "no budget": lambda o, s, c: o.pop(
                    ("PodDisruptionBudget", "latticed")),
                "audits latticed-0": lambda o, s, c: put(
                    o["HorizontalPodAutoscaler", "latticed"]["spec"],
                    "minReplicas", 4),
                "undone whenever": lambda o, s, c: put(s, "replicas", 3),
                "no other image": lambda o, s, c: job(o).pop(
                    "ttlSecondsAfterFinished"),
                "server: mounts": lambda o, s, c: c["volumeMounts"].pop(),
                # What an API server refuses.
                "no field terminationGracePeriodSecond": lambda o, s, c: rename(
                    s["template"]["spec"], "terminationGracePeriodSeconds",
                    "terminationGracePeriodSecond"),
                "readinessProbe: no field failureTreshold": lambda o, s, c: put(
                    c["readinessProbe"], "failureTreshold", 3),
                "StatefulSet.spec: without serviceName": lambda o, s, c: s.pop(
                    "serviceName"),
                "'7410' is no int": lambda o, s, c: put(
                    c["ports"][0], "containerPort", "7410"),
                "'2 GB' is no quantity": lambda o, s, c: put(
                    c["resources"]["limits"], "memory", "2 GB"),
                "'ReadWriteMost' is none of": lambda o, s, c: put(
                    o["PersistentVolumeClaim", "latticed-models"]["spec"],
                    "accessModes", ["ReadWriteMost"]),
                "no such kind of object": lambda o, s, c: put(
                    o["Job", "latticed-train"], "apiVersion", "batch/v2"),
        }.items():
            with self.subTest(said):
                self.assertIn(said, "\n".join(breaks(change)))

    def start(self, overlay, repository, change=lambda arg: arg):
        """A server with the flags of an overlay, but for its own addresses and
        folders."""
        [container] = self.rendered[overlay]["StatefulSet", "latticed"]["spec"][
            "template"]["spec"]["containers"]
        own = ("repository", "listen", "http_listen", "admin_listen",
               "state_directory")
        server = Server(ARGUMENTS.latticed, repository=repository, start=False,
                        flags=[change(arg) for arg in container["args"]
                               if arg.lstrip("-").split("=")[0] not in own])
        server.flags.append("--lame_duck_seconds=0")  # nobody waits for it
        self.addCleanup(server.stop)
        return server, {name: container[name] for name in PROBES}

    def publish(self, repository):
        shutil.copytree(f"{self.trained}/tiny", f"{repository}/.tiny")
        os.rename(f"{repository}/.tiny", f"{repository}/tiny")

    def folder(self):
        folder = tempfile.mkdtemp(prefix="latticed-kubernetes-test-")
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def test_a_server_with_nothing_to_serve_is_alive_and_not_ready(self):
        repository = self.folder()
        server, probes = self.start("cpu", repository)
        server.start()

        def fine(probe):
            """As the kubelet asks, in the wire's own bytes."""
            name = probes[probe]["grpc"].get("service", "").encode()
            with connect(server.address) as channel:
                try:
                    return channel.unary_unary("/grpc.health.v1.Health/Check")(
                        b"\n" + bytes([len(name)]) + name,
                        timeout=30) == b"\x08\x01"
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
                    return False
        self.assertEqual({name: fine(name) for name in PROBES},
                         {"startupProbe": True, "livenessProbe": True,
                          "readinessProbe": False})
        self.publish(repository)
        until(lambda: fine("readinessProbe"), "it is not ready")
        # What scales it, by the labels that the rule divides by.
        metrics = page(server)
        for name in ("latticed_queue_configurations",
                     "latticed_queue_capacity_configurations"):
            self.assertEqual(labels(metrics, name), ['model="tiny"'])

    def certificate(self, folder, names):
        """A CA and a server's certificate for these names, as Secret
        latticed-tls has them."""
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, cwd=folder,
                           capture_output=True, timeout=60)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
               "-nodes")
        openssl("req", "-x509", *key, "-days", "30", "-subj", "/CN=CA",
                "-keyout", "ca.key", "-out", "ca.crt")
        openssl("req", "-new", *key, "-subj", "/CN=latticed", "-keyout",
                "tls.key", "-out", "tls.csr")
        with open(os.path.join(folder, "names"), "w") as file:
            file.write("subjectAltName=" + ",".join(
                f"DNS:{name}" for name in names))
        openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey",
                "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "names",
                "-out", "tls.crt")

    def secure(self, repository):
        """The folder with its secrets, and how to start a server of overlay ha.
        Its certificate has the overlay's names, and the short one."""
        for name in NAMES:
            self.assertIn(name, documents.read(
                "deploy/kubernetes/ha/kustomization.yaml"))
            self.assertIn(f"`{name}`", documents.read("docs/operations.md"))
        folder = self.folder()
        self.certificate(folder, [*NAMES, SHORT])
        for name, text in (("chain-token.key", "k" * 32), ("audit-token", "a"),
                           ("tokens", "audit sampler " + "ca978112ca1bbdcafac23"
                            "1b39a23dc4da786eff8147c4e72b9807785afee48bb\n")):
            path = os.path.join(folder, name)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o440)  # as secrets are mounted
        os.chmod(os.path.join(folder, "tls.key"), 0o440)
        return folder, lambda change=lambda arg: arg: self.start(
            "ha", repository, lambda arg: change(re.sub(
                r"=/(tls|tokens|chains)/", f"={folder}/", arg)))

    def test_probes_and_audits_of_ha_fit_its_certificate(self):
        repository = self.folder()
        folder, start = self.secure(repository)
        server, probes = start()
        server.start()
        port = server.address.split(":")[1]

        def health(*arguments):
            # c-ares, which resolves names, leaks ten bytes.
            return subprocess.run(
                [ARGUMENTS.latticectl, "health", *arguments],
                capture_output=True, timeout=60,
                env={**os.environ, "LSAN_OPTIONS": "detect_leaks=0"}).returncode

        def fine(probe):
            [_, _, *rest] = probes[probe]["exec"]["command"]
            return health(*[word.replace("/tls/", folder + "/").replace(
                "localhost:7410", f"localhost:{port}")
                for word in rest]) == 0
        self.assertEqual({name: fine(name) for name in PROBES},
                         {"startupProbe": True, "livenessProbe": True,
                          "readinessProbe": False})
        for name, code in (("latticed-0.latticed-replicas.latticed.svc", 0),
                           ("latticed", 0), ("elsewhere", 2),
                           ("latticed-0.latticed-replicas", 2)):
            self.assertEqual(health(
                "--alive", f"--server={server.address}", "--tls_ca_file",
                f"{folder}/ca.crt", f"--tls_server_name={name}"), code, name)

        self.publish(repository)
        until(lambda: fine("readinessProbe"), "it is not ready")
        # The names of a cluster, for the servers that audit.
        hosts = os.path.join(folder, "hosts")
        with open(hosts, "w") as file:
            for i in range(3):
                name = f"latticed-{i}.latticed-replicas"
                file.write(f"127.0.0.1 {name}.latticed.svc {name}\n")
        os.chmod(hosts, 0o644)
        in_cluster = ["unshare", "--mount", "sh", "-c",
                      f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]
        if subprocess.run([*in_cluster, "true"],
                          capture_output=True).returncode:
            self.skipTest("no files of its own here")

        def audits(suffix):
            server, _ = start(lambda arg: arg if "audit_peers" not in arg else
                              arg.replace(":7410", f":{port}").replace(
                                  ".latticed.svc", suffix))
            server.command = [*in_cluster, *server.command]
            server.flags.append("--audit_seconds=0.05")
            server.start()
            until(lambda: value(page(server), "latticed_replica_audits_total")
                  + value(page(server), "latticed_replica_audit_failures_total")
                  >= 3, "it does not audit")
            return value(page(server), "latticed_replica_audits_total"), value(
                page(server), "latticed_replica_audit_failures_total")
        compared, failed = audits(".latticed.svc")
        self.assertGreaterEqual(compared, 3)
        self.assertEqual(failed, 0)
        compared, failed = audits("")
        self.assertEqual(compared, 0)
        self.assertGreaterEqual(failed, 3)


class Monitoring(unittest.TestCase):
    """deploy/prometheus/kubernetes.yml and the rule of prometheus-adapter.
    Debian's Prometheus cannot ask Kubernetes for pods: targets are given to it
    as discovery would find them."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="latticed-kubernetes-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.config = yaml.safe_load(documents.read(
            "deploy/prometheus/kubernetes.yml"))
        self.config["rule_files"] = [f"{ROOT}/deploy/prometheus/{name}"
                                     for name in self.config["rule_files"]]

    def promtool(self, *arguments):
        done = subprocess.run(["promtool", *arguments], capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    @staticmethod
    def pods(objects):
        """Name, phase and template of pods, one that has ended among them."""
        server = objects["StatefulSet", "latticed"]["spec"]["template"]
        trainer = objects["Job", "latticed-train"]["spec"]["template"]
        return (("latticed-0", "Running", server),
                ("latticed-1", "Pending", server),
                ("latticed-train-xyz", "Running", trainer),
                ("latticed-train-old", "Failed", trainer))

    def discovered(self, job, objects):
        """What discovery would find for a job: each port of each pod."""
        [how] = job["kubernetes_sd_configs"]
        self.assertEqual((how["role"], how["namespaces"]),
                         ("pod", {"names": ["latticed"]}))
        [selector] = how["selectors"]
        self.assertEqual(selector["role"], "pod")
        wanted = dict(pair.split("=") for pair in selector["label"].split(","))
        targets = []
        for i, (name, phase, template) in enumerate(self.pods(objects), 1):
            if not selects(wanted, template["metadata"]["labels"]):
                continue
            for port in template["spec"]["containers"][0]["ports"]:
                targets.append({
                    "targets": [f"10.0.0.{i}:{port['containerPort']}"],
                    "labels": {"__meta_kubernetes_" + key: text
                               for key, text in {
                                   "namespace": "latticed", "pod_name": name,
                                   "pod_phase": phase,
                                   "pod_container_port_name": port["name"],
                               }.items()}})
        return targets

    def test_pods_are_scraped_under_the_labels_that_rules_go_by(self):
        objects, config = render("ha"), copy.deepcopy(self.config)
        for job in config["scrape_configs"]:
            job["static_configs"] = self.discovered(job, objects)
            del job["kubernetes_sd_configs"]
        path = os.path.join(self.folder, "prometheus.yml")
        with open(path, "w") as file:
            yaml.safe_dump(config, file)
        self.promtool("check", "config", path)
        found = {}
        for job in config["scrape_configs"]:
            # It takes all of its time.
            for target in json.loads(self.promtool(
                    "check", "service-discovery", "--timeout=2s", path,
                    job["job_name"])):
                if target["labels"]:  # else it is not scraped
                    found[target["labels"]["__address__"]] = {
                        key: text for key, text in target["labels"].items()
                        if not key.startswith("__")}

        def pod(name, job):
            return {"job": job, "namespace": "latticed", "pod": name,
                    "instance": name}
        self.assertEqual(found, {
            "10.0.0.1:7412": pod("latticed-0", "latticed"),
            "10.0.0.2:7412": pod("latticed-1", "latticed"),
            "10.0.0.3:7420": pod("latticed-train-xyz", "latticed-train")})

    def test_the_autoscaler_sees_how_full_the_shared_buffers_are(self):
        [rule] = yaml.safe_load(documents.read(
            "deploy/kubernetes/prometheus-adapter.yaml"))["rules"]
        [metric] = render("ha")["HorizontalPodAutoscaler", "latticed"]["spec"][
            "metrics"]
        self.assertEqual(rule["name"]["as"],
                         metric["pods"]["metric"]["name"])
        self.assertEqual(set(rule["resources"]["overrides"]),
                         {"namespace", "pod"})
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace(
            "<<.LabelMatchers>>",
            'namespace="latticed",pod=~"latticed-0|latticed-1"')
        self.assertNotIn("<<", query)

        def series(metric, model, pod, value):
            return {"series": f'latticed_queue_{metric}{{job="latticed",'
                    f'namespace="latticed",pod="{pod}",instance="{pod}",'
                    f'model="{model}"}}', "values": str(value)}
        # Two models of pod 0 fill its buffers by 40 % and by 30 %.
        given = [series(*one) for one in (
            ("configurations", "m", "latticed-0", 40),
            ("capacity_configurations", "m", "latticed-0", 100),
            ("configurations", "n", "latticed-0", 300),
            ("capacity_configurations", "n", "latticed-0", 1000),
            ("configurations", "m", "latticed-1", 0),
            ("capacity_configurations", "m", "latticed-1", 100),
            ("configurations", "m", "elsewhere", 100),
            ("capacity_configurations", "m", "elsewhere", 100))]
        path = os.path.join(self.folder, "test.yml")
        with open(path, "w") as file:
            yaml.safe_dump({"rule_files": [], "tests": [{
                "interval": "1m", "input_series": given,
                "promql_expr_test": [
                    {"expr": query, "eval_time": "0m", "exp_samples": [
                        {"labels": '{pod="latticed-0"}', "value": 0.7},
                        {"labels": '{pod="latticed-1"}', "value": 0}]},
                    # By which the adapter finds the metric.
                    {"expr": f"count({rule['seriesQuery']})",
                     "eval_time": "0m", "exp_samples": [
                         {"labels": "{}", "value": 4}]}]}]}, file)
        self.promtool("test", "rules", path)


def until(what, reason, seconds=240):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError(reason)
        time.sleep(0.1)


def page(server):
    with urllib.request.urlopen(f"http://{server.http}/metrics",
                                timeout=60) as reply:
        return reply.read().decode()


def labels(metrics, name):
    return re.findall(rf"^{name}{{(.*)}} ", metrics, re.MULTILINE)


def value(metrics, name):
    """Of all series of a metric together."""
    return sum(float(number) for number in re.findall(
        rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for option in ("latticed", "train", "latticectl"):
        parser.add_argument(f"--{option}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1] + [
        word for word in rest if word.startswith(("Kubernetes", "Monitoring"))])
