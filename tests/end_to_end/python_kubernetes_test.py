#!/usr/bin/python3
"""deploy/kubernetes: what kubectl renders fits together and fits the programs.
No API server is at hand: what one would check beyond this is not checked."""

import argparse
import copy
import os
import re
import subprocess
import sys
import unittest
import urllib.request

import yaml

from python_server import Server

ARGUMENTS = None  # of the command line
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
OVERLAYS = ("cpu", "gpu", "ha")


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
    wrong = []

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
        need(template["metadata"]["annotations"]["prometheus.io/port"]
             == str(ports["http"]), f"{name}: scraped on another port")
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
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
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
        need(alive == (probe == "livenessProbe"),
             f"{probe}: a bad model restarts it, or a pod without one is ready")
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
            need(spec["minReplicas"] == server["replicas"],
                 f"{name}: another minimum than replicas")
        elif kind == "NetworkPolicy":
            who = [t for t, _ in pods.values() if selects(
                spec["podSelector"]["matchLabels"], t["metadata"]["labels"])]
            need(len(who) == 1, f"{name} is for {len(who)} kinds of pods")
            open_ports = {p["port"] for rule in spec["ingress"]
                          for p in rule["ports"]}
            have = {p["containerPort"] for t in who
                    for p in t["spec"]["containers"][0]["ports"]}
            need(open_ports == have, f"{name}: opens {open_ports}, not {have}")
    replicas = server["serviceName"]
    need(("Service", replicas) in objects, "replicas have no names")
    peers = args.get("audit_peers", "")
    if server["replicas"] > 1:
        need(peers.split(",") == [
            f"latticed-{i}.{replicas}:{ports['grpc']}"
            for i in range(server["replicas"])], f"audits {peers}")
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

        for what, change in {
                "lame_duck": lambda o, s, c: c["args"].append("--no_flag"),
                "drained": lambda o, s, c: put(
                    s["template"]["spec"], "terminationGracePeriodSeconds", 20),
                "port": lambda o, s, c: put(c["ports"][0], "containerPort", 1),
                "write": lambda o, s, c: [put(m, "readOnly", False)
                                          for m in c["volumeMounts"]],
                "root": lambda o, s, c: put(
                    c["securityContext"], "readOnlyRootFilesystem", False),
                "alive": lambda o, s, c: c["livenessProbe"]["exec"][
                    "command"].remove("--alive"),
                "tls": lambda o, s, c: put(
                    c, "readinessProbe",
                    {"grpc": {"port": 7410, "service": "readiness"}}),
                "selector": lambda o, s, c: put(
                    o["Service", "latticed"]["spec"], "selector", {"a": "b"}),
                "budget": lambda o, s, c: o.pop(
                    ("PodDisruptionBudget", "latticed")),
                "peers": lambda o, s, c: put(s, "replicas", 4),
                "mount": lambda o, s, c: c["volumeMounts"].pop()}.items():
            with self.subTest(what):
                self.assertNotEqual(breaks(change), [])

    def test_a_server_starts_with_the_rendered_flags(self):
        [container] = self.rendered["cpu"]["StatefulSet", "latticed"]["spec"][
            "template"]["spec"]["containers"]
        own = ("repository", "listen", "http_listen", "admin_listen",
               "state_directory")
        server = Server(ARGUMENTS.latticed, ARGUMENTS.train, flags=[
            arg for arg in container["args"]
            if arg.lstrip("-").split("=")[0] not in own])
        self.addCleanup(server.stop)
        with urllib.request.urlopen(f"http://{server.http}/readyz",
                                    timeout=30) as reply:
            self.assertEqual(reply.status, 200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for option in ("latticed", "train", "latticectl"):
        parser.add_argument(f"--{option}", required=True)
    ARGUMENTS, _ = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1])
