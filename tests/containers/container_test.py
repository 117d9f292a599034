"""The images localhost/latticed:cpu and, where it was asked for, :cuda in
containers: scripts/container-test."""

import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from containers import (BUNDLED, CUDA, HARDENED, IMAGE, REMOTE, ROOT,
                        START_MAX, Container, field, page, podman, run,
                        setUpModule, until)  # noqa: F401


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
