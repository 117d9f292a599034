#!/usr/bin/python3
"""The images localhost/latticed:cpu and, where it was asked for, :cuda in
containers: scripts/container-test."""

import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.append(os.path.join(ROOT, "tests", "end_to_end"))
import documents  # noqa: E402
IMAGE = "localhost/latticed:cpu"
CUDA = "localhost/latticed:cuda"
# What nobody needs to be allowed.
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges",
            "--user=65532:65532",
            # Podman has systemd run those, which is not here: tests ask by hand.
            "--no-healthcheck")
REMOTE = ("--listen=0.0.0.0:7410", "--http_listen=0.0.0.0:7412",
          "--insecure_allow_remote")
BUNDLED = "--repository=/usr/share/latticed/models"
# Seconds from `podman run` to serving, and for a training of phi4-l6.
START_MAX = 10
TRAINING_MAX = 900


def run(*command, check=True, timeout=120):
    done = subprocess.run(command, capture_output=True, text=True,
                          timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with "
                             f"{done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def podman(*arguments, **options):
    return run("podman", *arguments, **options)


def until(what, seconds, reason):
    """The first true value of `what`, and after how long."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        value = what()
        if value:
            return value, time.monotonic() - start
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {reason}")


def page(url):
    """The reply's text; None while nobody answers, or not with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.read().decode()
    except (OSError, urllib.error.URLError):
        return None


def field(name, text):
    """Values of a metric, by its labels."""
    return {labels: float(value) for labels, value in re.findall(
        rf"^{name}({{[^}}]*}})? (\S+)$", text, re.MULTILINE)}


def packages(section):
    """Of scripts/packages.txt."""
    with open(f"{ROOT}/scripts/packages.txt") as file:
        return re.search(rf"{re.escape(section)}\n(.*?)\n\n", file.read(),
                         re.DOTALL).group(1).split("\n")


def owners():
    """Debian packages with a library of each name, of those on this machine."""
    found = {}
    for path in glob.glob("/var/lib/dpkg/info/*.list"):
        package = os.path.basename(path)[:-len(".list")].split(":")[0]
        with open(path) as file:
            for line in file:
                name = os.path.basename(line.rstrip("\n"))
                if re.search(r"\.so(\.|$)", name):
                    found.setdefault(name, set()).add(package)
    return found


def amiss(libraries, listed, owned):
    """Libraries of no package on the list, and packages on it without any."""
    unlisted = {name for name in libraries
                if not owned.get(name, set()) & listed}
    of = set().union(*(owned.get(name, set()) for name in libraries))
    return unlisted | (listed - of - {"ca-certificates"})


def setUpModule():
    """Podman's part that notices ends, and starts again, wants a syslog; small
    machines have none."""
    if os.path.exists("/dev/log"):
        return
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind("/dev/log")
    unittest.addModuleCleanup(os.remove, "/dev/log")

    def read():
        while True:
            log.recv(65536)
    threading.Thread(target=read, daemon=True).start()


class Container:
    """Runs detached; `arguments` before the image, `flags` after it."""

    def __init__(self, test, *flags, arguments=HARDENED, entrypoint=None,
                 image=IMAGE):
        extra = (f"--entrypoint={entrypoint}",) if entrypoint else ()
        self.began = time.monotonic()
        self.id = podman("run", "--detach", *arguments, *extra, image,
                         *flags).stdout.strip()
        test.addCleanup(podman, "rm", "--force", "--time=0", self.id)

    def inspect(self, template):
        return podman("inspect", "--format", template, self.id).stdout.strip()

    def address(self):
        """Of the container in its network."""
        return self.inspect(
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")

    def log(self):
        done = podman("logs", self.id)
        return done.stdout + done.stderr

    def code(self, timeout=120):
        return int(podman("wait", self.id, timeout=timeout).stdout)

    def serves(self, seconds=60):
        """Seconds from `podman run` until it has something to draw from."""
        url = f"http://{self.address()}:7412/readyz"
        until(lambda: page(url), seconds, self.log())
        return time.monotonic() - self.began


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.about = json.loads(podman("inspect", IMAGE).stdout)[0]
        cls.folder = tempfile.mkdtemp(prefix="latticed-container-test-")
        # The image's files, to look at from outside.
        made = podman("create", IMAGE).stdout.strip()
        archive = os.path.join(cls.folder, "image.tar")
        podman("export", "--output", archive, made)
        podman("rm", made)
        cls.root = os.path.join(cls.folder, "root")
        os.mkdir(cls.root)
        run("tar", "-C", cls.root, "-xf", archive)
        os.remove(archive)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_says_what_it_is_and_runs_as_nobody(self):
        config = self.about["Config"]
        self.assertEqual(config["User"], "65532:65532")
        self.assertEqual(config["Entrypoint"], ["/usr/bin/latticed"])
        self.assertEqual(config["StopSignal"], "SIGTERM")
        labels = config["Labels"]
        for name in ("title", "description", "version", "revision"):
            self.assertTrue(labels["org.opencontainers.image." + name], name)
        version = podman("run", "--rm", *HARDENED, IMAGE,
                         "--version").stdout.split()[1]
        self.assertEqual(version, labels["org.opencontainers.image.version"]
                         + "+" + labels["org.opencontainers.image.revision"])

    def test_has_programs_of_ours_and_no_others(self):
        self.assertEqual(sorted(os.listdir(os.path.join(self.root, "usr/bin"))),
                         ["latticectl", "latticed", "latticed-train"])
        shell = podman("run", "--rm", "--entrypoint=/bin/sh", IMAGE,
                       check=False)
        self.assertNotEqual(shell.returncode, 0)
        writable = run("find", self.root, "-xdev", "-perm", "/022", "!",
                       "-type", "l", "!", "-path", "*/tmp").stdout
        self.assertEqual(writable, "")
        print(f"image: {self.about['Size'] / 1e6:.0f} MB")
        self.assertLess(self.about["Size"], 900e6)

    def test_every_library_is_of_a_package_on_the_list(self):
        with open(os.path.join(self.root,
                               "usr/share/doc/latticed/sbom.spdx")) as file:
            text = file.read()
        listed = dict(re.findall(
            r"^PackageName: (\S+)\n(?:.*\n)PackageVersion: (\S+)", text,
            re.MULTILINE))
        self.assertLessEqual(set(packages("[runtime]")), set(listed))
        libraries = {name for _, _, names in os.walk(
            os.path.join(self.root, "usr")) for name in names
            if re.search(r"\.so(\.|$)", name)}
        self.assertGreater(len(libraries), 100)
        # This machine has what the image was built from: scripts/install-deps.
        owned = owners()
        self.assertEqual(amiss(libraries, set(listed), owned), set())
        self.assertEqual(amiss(libraries | {"libnobodys.so.1"},
                               set(listed) - {"libc6"} | {"bash"}, owned)
                         & {"libnobodys.so.1", "libc.so.6", "bash"},
                         {"libnobodys.so.1", "libc.so.6", "bash"})
        for name in ("libtorch1.13", "libgrpc++1.51"):
            self.assertTrue(listed[name].startswith(
                name.lstrip("libtorchgrpc+")), listed[name])


@unittest.skipUnless("cuda" in os.environ.get("LATTICED_IMAGES", "").split(),
                     "scripts/container-test --cuda builds it")
class CudaImage(unittest.TestCase):
    """As far as it goes without a GPU."""

    def test_a_missing_gpu_is_named_and_the_cpu_draws(self):
        about = json.loads(podman("inspect", CUDA).stdout)[0]
        print(f"image cuda: {about['Size'] / 1e6:.0f} MB")
        config = about["Config"]
        self.assertEqual((config["User"], config["Entrypoint"]),
                         ("65532:65532", ["/usr/bin/latticed"]))
        self.assertIn("NVIDIA_VISIBLE_DEVICES=all", config["Env"])
        without = Container(self, BUNDLED, "--device=cuda", "--kernel=plain",
                            image=CUDA)
        self.assertEqual(without.code(), 2, without.log())
        self.assertIn("CUDA", without.log())
        for kernel in ("fused", "plain"):
            server = Container(self, BUNDLED, *REMOTE, f"--kernel={kernel}",
                               image=CUDA)
            server.serves()
            draws = json.loads(podman(
                "exec", server.id, "/usr/bin/latticectl", "sample", "--model",
                "phi4-l6", "--count", "1024", "--json").stdout)
            self.assertEqual(draws["draws"], 1024)
            podman("stop", "--time=45", server.id)

    def test_wheels_are_on_the_list(self):
        made = podman("create", CUDA).stdout.strip()
        self.addCleanup(podman, "rm", made)
        folder = tempfile.mkdtemp(prefix="latticed-container-test-")
        self.addCleanup(shutil.rmtree, folder)
        podman("cp", f"{made}:/usr/share/doc/latticed/sbom.spdx", folder)
        with open(os.path.join(folder, "sbom.spdx")) as file:
            listed = set(re.findall(r"purl pkg:pypi/(\S+)", file.read()))
        for wheel in packages("[pypi cuda]"):
            self.assertIn(re.sub(r"\[.*\]", "", wheel).replace("==", "@"),
                          listed)


class Service(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="latticed-container-test-")
        # The client that belongs to the image, run from outside of it.
        made = podman("create", IMAGE).stdout.strip()
        cls.latticectl = os.path.join(cls.folder, "latticectl")
        podman("cp", f"{made}:/usr/bin/latticectl", cls.latticectl)
        podman("rm", made)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def volume(self):
        name = podman("volume", "create").stdout.strip()
        self.addCleanup(podman, "volume", "rm", "--force", name)
        return name

    def draw(self, server, count, *flags, check=True, model="phi4-l6"):
        return run(self.latticectl, "sample", "--server",
                   f"{server.address()}:7410", "--model", model, "--count",
                   str(count), "--json", *flags, check=check)

    def test_serves_within_seconds_and_writes_nothing_outside_its_volumes(self):
        state = self.volume()
        # Its root could be written to here: podman sees whether it was.
        server = Container(
            self, BUNDLED, "--state_directory=/state", *REMOTE,
            arguments=(*HARDENED[1:-1], f"--volume={state}:/state",
                       "--publish=127.0.0.1:17410:7410"))
        seconds = server.serves()
        print(f"podman run to serving: {seconds:.1f} s")
        self.assertLess(seconds, START_MAX)
        draws = json.loads(run(
            self.latticectl, "sample", "--server", "127.0.0.1:17410", "--model",
            "phi4-l6", "--count", "2048", "--json").stdout)
        self.assertEqual(draws["draws"], 2048)
        # The image's own health check, and one of a model.
        podman("healthcheck", "run", server.id)
        podman("exec", server.id, "/usr/bin/latticectl", "health", "--model",
               "phi4-l8")
        until(lambda: "gate" in server.log(), 120, "no version was gated")
        changed = [line for line in podman("diff", server.id).stdout.split("\n")
                   if line and not re.fullmatch(
                       r"[CA] /(etc|run|models|state|proc|sys|dev|tmp)?"
                       r"|[CA] /(run/\.containerenv|etc/(hosts|hostname|"
                       r"resolv\.conf|mtab))", line)]
        self.assertEqual(changed, [])
        with open(f"/proc/{server.inspect('{{.State.Pid}}')}/status") as file:
            self.assertIn("CapEff:\t0000000000000000", file.read())

    def test_what_a_trainer_publishes_is_served_from_a_shared_volume(self):
        models, state = self.volume(), self.volume()
        server = Container(
            self, "--repository=/models", "--state_directory=/state", *REMOTE,
            arguments=(*HARDENED, f"--volume={models}:/models:ro",
                       f"--volume={state}:/state"))
        until(lambda: page(f"http://{server.address()}:7412/healthz"), 30,
              server.log())
        self.assertIsNone(page(f"http://{server.address()}:7412/readyz"))
        tiny = os.path.join(ROOT, "tests/end_to_end/tiny.textproto")
        trainer = Container(
            self, "--spec=/spec/tiny.textproto", "--repository=/models",
            "--model=tiny", entrypoint="/usr/bin/latticed-train",
            arguments=(*HARDENED, f"--volume={models}:/models",
                       f"--volume={os.path.dirname(tiny)}:/spec:ro"))
        self.assertEqual(trainer.code(timeout=240), 0, trainer.log())
        server.serves(120)
        done = json.loads(self.draw(server, 512, model="tiny").stdout)
        self.assertEqual((done["draws"], done["provenance"]["version"]),
                         (512, "1"))

    def test_sigterm_drains_and_nothing_drawn_is_lost(self):
        server = Container(self, BUNDLED, *REMOTE)
        server.serves()
        output = os.path.join(self.folder, "long.npz")
        client = subprocess.Popen(
            [self.latticectl, "sample", "--server",
             f"{server.address()}:7410", "--model", "phi4-l12", "--count",
             "400000", "--output", output, "--retry_for=0", "--quiet"],
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(client.kill)
        metrics = f"http://{server.address()}:7412/metrics"
        until(lambda: sum(field("latticed_configurations_delivered_total",
                                page(metrics) or "").values()) > 20000, 120,
              "nothing is drawn")
        start = time.monotonic()
        podman("stop", "--time=45", server.id)
        took = time.monotonic() - start
        self.assertEqual(server.code(), 0, server.log())
        self.assertLess(took, 30)
        _, err = client.communicate(timeout=60)
        self.assertEqual(client.returncode, 2, err)
        self.assertIn("drained", server.log())
        import numpy
        with numpy.load(output) as draws:
            kept = len(draws["log_q"])
        self.assertGreater(kept, 0)
        with open(output + ".json") as file:
            self.assertEqual(json.load(file)["draws"], kept)

    def test_settings_that_are_wrong_end_with_1_others_with_2(self):
        private = self.volume()
        podman("run", "--rm", "--user=0:0", f"--volume={private}:/models",
               "--entrypoint=/usr/bin/latticed-train", IMAGE, "reference",
               "--spec=/usr/share/latticed/specs/phi4-l6.textproto",
               "--repository=/models/of-root", "--model=phi4-l6",
               "--updates=1000", "--configurations=16")
        where = podman("volume", "inspect", "--format", "{{.Mountpoint}}",
                       private).stdout.strip()
        os.chmod(where, 0o700)
        os.chown(where, 0, 0)
        for flags, arguments, code, said in (
                (("--repository=/models", "--poll_seconds=0"), (), 1,
                 "--poll_seconds"),
                (("--repository=/models", "--no_such_flag"), (), 1,
                 "no_such_flag"),
                (("--repository=/models", "--listen=0.0.0.0:7410"), (), 1,
                 "--insecure_allow_remote"),
                (("--repository=/models",
                  "--tls_certificate_file=/run/secrets/tls.crt",
                  "--tls_key_file=/run/secrets/tls.key"), (), 2,
                 "/run/secrets/tls"),
                (("--repository=/models/later",), (), 2, "/models/later"),
                (("--repository=/models",),
                 (f"--volume={private}:/models",), 2, "Permission denied"),
                ((BUNDLED, "--state_directory=/state"),
                 (f"--volume={private}:/state",), 2, "Permission denied"),
                ((BUNDLED, "--state_directory=/elsewhere"), (), 2,
                 "/elsewhere")):
            with self.subTest(flags=flags, arguments=arguments):
                server = Container(self, *flags,
                                   arguments=(*HARDENED, *arguments))
                self.assertEqual((server.code(), said in server.log()),
                                 (code, True), server.log())

    def test_a_repository_that_is_mounted_late_is_tried_again(self):
        late = os.path.join(self.folder, "late")
        os.mkdir(late)
        server = Container(
            self, "--repository=/late/models", *REMOTE,
            arguments=(*HARDENED, f"--volume={late}:/late:ro",
                       "--restart=on-failure:100"))
        until(lambda: int(server.inspect("{{.RestartCount}}")) > 0, 30,
              server.log())
        os.symlink("/usr/share/latticed/models", os.path.join(late, "models"))
        server.serves()

    def test_out_of_memory_is_seen_and_started_again(self):
        limited = (*HARDENED, "--memory=60m", "--memory-swap=60m")
        server = Container(self, BUNDLED, *REMOTE, arguments=limited)
        self.assertEqual(server.code(), 137, server.log())
        again = Container(self, BUNDLED, *REMOTE,
                          arguments=(*limited, "--restart=on-failure:2"))
        until(lambda: int(again.inspect("{{.RestartCount}}")) == 2, 60,
              again.log())


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


if __name__ == "__main__":
    unittest.main(verbosity=2)
