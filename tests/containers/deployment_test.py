"""The image localhost/latticed:cpu as deploy/kubernetes, deploy/compose.yaml and
docs/operations.md start it: scripts/container-test."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.parse

import yaml

from containers import (IMAGE, ROOT, TRAINING_MAX, page, podman, run,
                        setUpModule, until)  # noqa: F401

sys.path.append(os.path.join(ROOT, "tests", "end_to_end"))
import documents  # noqa: E402


class Kubernetes(unittest.TestCase):
    """Podman plays Pods and claims. StatefulSet, Job, Services and probes are
    the cluster's: their pods are played, and the probes asked as a kubelet
    does, through latticectl."""

    def test_overlay_cpu_is_played(self):
        rendered = list(yaml.safe_load_all(run(
            "kubectl", "kustomize", f"{ROOT}/deploy/kubernetes/cpu").stdout))
        by_kind = {item["kind"]: item for item in rendered}
        server = by_kind["StatefulSet"]["spec"]
        template, [claim] = server["template"], server["volumeClaimTemplates"]
        probes = {name: template["spec"]["containers"][0].pop(name)["grpc"]
                  for name in ("startupProbe", "readinessProbe",
                               "livenessProbe")}
        [container] = template["spec"]["containers"]
        container["image"] = IMAGE
        template["spec"]["volumes"].append(
            {"name": "state", "persistentVolumeClaim":
             {"claimName": claim["metadata"]["name"]}})
        job = by_kind["Job"]["spec"]["template"]
        job["spec"]["containers"][0]["image"] = IMAGE
        # The shortest of the image's trainings: a minute instead of twenty.
        job["spec"]["containers"][0]["args"] = [
            arg.replace("phi4-l8", "phi4-l6")
            for arg in job["spec"]["containers"][0]["args"]]
        job["spec"]["restartPolicy"] = "Never"
        objects = [by_kind["PersistentVolumeClaim"], dict(claim, apiVersion="v1",
                   kind="PersistentVolumeClaim")]
        for name, pod in (("latticed", template), ("latticed-train", job)):
            objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": name, "labels": pod["metadata"]["labels"]},
                "spec": pod["spec"]})
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump_all(objects, file)
            file.flush()
            podman("play", "kube", file.name)
            self.addCleanup(podman, "volume", "rm", "--force", "state",
                            "latticed-models")
            self.addCleanup(podman, "pod", "rm", "--force", "--time=0",
                            "latticed", "latticed-train")

            def ask(probe):
                service = probes[probe].get("service", "")
                self.assertIn(service, ("", "readiness"))
                asked = ["--alive"] if not service else []
                return podman("exec", "latticed-latticed",
                              "/usr/bin/latticectl", "health", *asked,
                              check=False).returncode
            for probe in ("startupProbe", "livenessProbe"):
                until(lambda: ask(probe) == 0, 30, f"no {probe} is answered")
            # Nothing is published yet.
            self.assertNotEqual(ask("readinessProbe"), 0)
            code = int(podman("wait", "latticed-train-latticed-train",
                              timeout=TRAINING_MAX).stdout)
            said = podman("logs", "latticed-train-latticed-train")
            self.assertEqual(code, 0, said.stderr)
            self.assertIn("published phi4-l6 version 1", said.stderr)
            until(lambda: ask("readinessProbe") == 0, 120,
                  "what was published is not served")
            draws = json.loads(podman(
                "exec", "latticed-latticed", "/usr/bin/latticectl", "sample",
                "--model", "phi4-l6", "--count", "1024", "--json").stdout)
            self.assertEqual((draws["draws"], draws["provenance"]["version"]),
                             (1024, "1"))


class Compose(unittest.TestCase):
    """deploy/compose.yaml through podman-compose, but for Grafana, which Debian
    does not have; its Prometheus is Debian's, under the image's name."""

    PROJECT = "latticed-test"

    def compose(self, *arguments, **options):
        return run("podman-compose", "-p", self.PROJECT, "-f", self.file,
                   *arguments, timeout=240, **options)

    def test_up_serves_what_it_trains_and_is_scraped(self):
        with open(f"{ROOT}/deploy/compose.yaml") as file:
            compose = yaml.safe_load(file)
        services = compose["services"]
        image = services["prometheus"]["image"]
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(shutil.which("prometheus"), folder)
            with open(f"{folder}/Dockerfile", "w") as file:
                file.write("FROM localhost/debian:12\n"
                           "COPY prometheus /bin/prometheus\n"
                           "RUN mkdir /prometheus && chmod 777 /prometheus\n"
                           "USER 65534\nENTRYPOINT [\"/bin/prometheus\"]\n")
            run("buildah", "bud", "--isolation", "chroot", "--pull-never",
                "--tag", image, folder)
        podman("tag", IMAGE, "docker.io/library/latticed:cpu")
        # The shortest of the image's trainings, and no Grafana; all else as it
        # stands.
        for name in ("reference", "trainer"):
            services[name]["command"] = [
                word.replace("phi4-l8", "phi4-l6").replace("200000", "20000")
                for word in services[name]["command"]]
        del services["grafana"], compose["volumes"]["grafana"]
        del services["reference"]["build"]
        self.file = f"{ROOT}/deploy/compose-test.yaml"  # its paths are relative
        self.addCleanup(os.remove, self.file)
        with open(self.file, "w") as file:
            yaml.safe_dump(compose, file)
        self.addCleanup(self.compose, "down", "--volumes", check=False)
        self.compose("up", "--detach")
        until(lambda: page("http://127.0.0.1:7412/healthz"), 60,
              "the server does not answer")

        def asked(query):
            """Values by job, of Prometheus."""
            text = page("http://127.0.0.1:9090/api/v1/query?query="
                        + urllib.parse.quote(query))
            return {} if text is None else {
                r["metric"]["job"]: float(r["value"][1])
                for r in json.loads(text)["data"]["result"]}
        # The trainer ends, and then nobody answers there.
        until(lambda: asked("max_over_time(up[10m])")
              == {"latticed": 1, "latticed-train": 1}, 120,
              "Prometheus does not scrape server and trainer")
        text, _ = until(lambda: page("http://127.0.0.1:9090/api/v1/rules"), 30,
                        "Prometheus does not answer")
        rules = json.loads(text)
        self.assertGreater(sum(len(group["rules"])
                               for group in rules["data"]["groups"]), 10)
        # Trained, published, served and seen.
        until(lambda: page("http://127.0.0.1:7412/readyz"), TRAINING_MAX,
              "nothing is served")
        [server] = podman("ps", "--quiet", "--filter",
                          f"name={self.PROJECT}[_-]server").stdout.split()
        draws = json.loads(podman(
            "exec", server, "/usr/bin/latticectl", "sample", "--model",
            "phi4-l6", "--count", "4096", "--json").stdout)
        self.assertEqual((draws["draws"], draws["provenance"]["version"]),
                         (4096, "1"))
        until(lambda: asked("sum by (job) (latticed_configurations_delivered_"
                            "total)").get("latticed", 0) >= 4096, 60,
              "Prometheus does not see what was drawn")

    def test_grafana_has_what_it_mounts(self):
        with open(f"{ROOT}/deploy/compose.yaml") as file:
            services = yaml.safe_load(file)["services"]
        for name in ("prometheus", "grafana"):
            for volume in services[name]["volumes"]:
                source = volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue(os.path.exists(
                        f"{ROOT}/deploy/{source}"), source)
        sources = []
        for folder in ("provisioning/datasources", "compose"):
            with open(f"{ROOT}/deploy/grafana/{folder}/latticed.yaml") as file:
                [source] = yaml.safe_load(file)["datasources"]
            sources.append(source)
        self.assertEqual(sources[1].pop("url"), "http://prometheus:9090")
        sources[0].pop("url")
        self.assertEqual(*sources)


class Operations(unittest.TestCase):
    """The blocks `sh container` of docs/operations.md, with podman for docker;
    the image that they build is the one under test."""

    # What they leave.
    CONTAINERS, VOLUMES = ("latticed",), ("latticed-state",)

    def clean(self):
        podman("rm", "--force", "--ignore", "--time=0", *self.CONTAINERS)
        podman("volume", "rm", "--force", *self.VOLUMES, check=False)

    def test_its_container_blocks_run(self):
        blocks = [block for block in documents.blocks(
            documents.read("docs/operations.md"))
            if block.info == "sh container"]
        builds = [block for block in blocks if "docker build" in block.text]
        self.assertEqual(len(builds), 1)
        self.assertEqual(blocks[0], builds[0])
        # Exactly what scripts/container-test has done with buildah.
        self.assertRegex(builds[0].text, r"\Adocker build --target cpu -t "
                         r"latticed:cpu --build-arg REVISION=\$\(git describe "
                         r"--always\) \.\n\Z")
        self.clean()
        self.addCleanup(self.clean)
        podman("tag", IMAGE, "docker.io/library/latticed:cpu")
        ran = "".join(block.text for block in blocks[1:])
        for name in (*self.CONTAINERS, *self.VOLUMES):
            self.assertIn(name, ran)
        with tempfile.TemporaryDirectory() as folder:
            for block in blocks[1:]:
                text = re.sub(r"\bdocker\b", "podman", block.text)
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", text], cwd=folder,
                    capture_output=True, text=True, timeout=300)
                self.assertEqual(
                    done.returncode, 0, f"docs/operations.md:{block.line}\n"
                    f"{text}{done.stdout}{done.stderr}")
            with open(os.path.join(folder, "sbom.spdx")) as file:
                self.assertIn("PackageName: libc6\n", file.read())
