#!/usr/bin/python3
"""Three replicas on hosts of their own (network namespaces), reached by clients
that balance themselves, through nginx and through HAProxy, with the files of
deploy/: replicas are killed and restarted one by one, a new version is
published, and every draw that was asked for arrives, once, as what it is."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import numpy

from python_server import Server

ARGUMENTS = None  # of the command line
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
INSIDE = "LATTICED_REPLICAS_TEST_INSIDE"
SKIPPED = 77
CLIENT = "10.74.0.1"  # of the proxies too; replicas are .11, .12, .13
REPLICAS = ("10.74.0.11", "10.74.0.12", "10.74.0.13")
BALANCED = "ipv4:" + ",".join(f"{host}:7410" for host in REPLICAS)
MODEL = "phi4-l6"
# Of a call, on an idle server: long enough to be broken in the middle.
CALL_SECONDS = 3
# The others cover the same ground with another balancer.
LONG = unittest.skipUnless(os.environ.get("LATTICED_LONG_TESTS"),
                           "in the long form (LATTICED_LONG_TESTS=1)")


def in_a_network_of_its_own():
    """Starts this test again where addresses and routes are nobody else's."""
    os.environ[INSIDE] = "1"
    try:
        os.makedirs("/run/netns", exist_ok=True)
    except OSError as error:
        print(f"skipped, no place for network namespaces here: {error}")
        sys.exit(SKIPPED)
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    trial = subprocess.run(["unshare", *rights, "--net", "--mount", "true"],
                           capture_output=True, text=True)
    if trial.returncode != 0:
        print(f"skipped, no network namespaces here: {trial.stderr}")
        sys.exit(SKIPPED)
    os.execvp("unshare", ["unshare", *rights, "--net", "--mount", "--",
                          sys.executable, *sys.argv])


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def hosts():
    """A bridge in this namespace, and a namespace behind it per replica."""
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    ip("link", "set", "lo", "up")
    ip("link", "add", "wire", "type", "bridge")
    ip("address", "add", f"{CLIENT}/24", "dev", "wire")
    ip("link", "set", "wire", "up")
    for i, address in enumerate(REPLICAS):
        name = f"replica-{i}"
        ip("netns", "add", name)
        ip("link", "add", f"to-{i}", "type", "veth", "peer", "eth0", "netns",
           name)
        ip("link", "set", f"to-{i}", "master", "wire", "up")
        for what in (("address", "add", f"{address}/24", "dev", "eth0"),
                     ("link", "set", "lo", "up"), ("link", "set", "eth0", "up")):
            ip("-netns", name, *what)


class Replica(Server):
    def __init__(self, host, folder, repository):
        super().__init__(
            ARGUMENTS.latticed, repository=repository, start=False,
            stderr=subprocess.DEVNULL, flags=(
                f"--chain_token_key_file={folder}/key", "--threads=1",
                "--insecure_allow_remote", "--gate_draws=0",
                # Longer than a balancer's look at /readyz or health.
                "--lame_duck_seconds=2", "--drain_seconds=4"))
        self.command[:0] = ["ip", "netns", "exec",
                            f"replica-{REPLICAS.index(host)}"]
        self.address, self.http = f"{host}:7410", f"{host}:7412"
        self.admin = "127.0.0.1:7411"
        self.start()

    def page(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}",
                                        timeout=5) as reply:
                return reply.read().decode()
        except (OSError, urllib.error.URLError):
            return ""

    def figure(self, name):
        """Sum of a metric over its labels."""
        return sum(float(line.rsplit(" ", 1)[1])
                   for line in self.page("/metrics").split("\n")
                   if line.startswith(name + "{") or
                   line.startswith(name + " "))


class Load:
    """Clients that draw, one call after the other, until told to stop."""

    def __init__(self, test, target, clients=3):
        self.test, self.target = test, target
        self.folder = tempfile.mkdtemp(dir=test.folder)
        self.stopping = threading.Event()
        self.files, self.errors = [], []
        self.drawing = set()  # files of calls that are open
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client, args=(i,))
                        for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        call = 0
        while not self.stopping.is_set():
            path = os.path.join(self.folder, f"{number}-{call}.npz")
            call += 1
            with self.lock:
                self.drawing.add(path)
            try:
                done = subprocess.run(
                    [ARGUMENTS.latticectl, "sample", "--server", self.target,
                     "--model", MODEL, "--count", str(self.test.draws),
                     "--output", path, "--quiet", "--retry_for", "90"],
                    capture_output=True, text=True, timeout=600)
            except subprocess.TimeoutExpired as error:
                with self.lock:
                    self.errors.append((path, "hangs", str(error.stderr)))
                return
            finally:
                with self.lock:
                    self.drawing.discard(path)
            with self.lock:
                self.files.append(path)
                if done.returncode != 0:
                    self.errors.append((path, done.returncode, done.stderr))

    def open(self):
        with self.lock:
            return set(self.drawing)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        self.test.assertEqual(self.errors, [])
        self.test.assertTrue(self.files)
        about = []
        for path in self.files:
            with open(path + ".json") as file:
                about.append(json.load(file))
        return about


class Replicas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        hosts()

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="latticed-replicas-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        with open(f"{self.folder}/key", "wb") as file:
            os.chmod(file.fileno(), 0o600)
            file.write(os.urandom(32))
        self.repository = f"{self.folder}/models"
        shutil.copytree(f"{ROOT}/models/{MODEL}", f"{self.repository}/{MODEL}")
        self.replicas = []
        self.draws = 0
        for host in REPLICAS:
            self.replicas.append(Replica(host, self.folder, self.repository))
            self.addCleanup(self.replicas[-1].stop)
        once = json.loads(subprocess.run(
            [ARGUMENTS.latticectl, "sample", "--server",
             self.replicas[0].address, "--model", MODEL, "--count", "2048",
             "--quiet", "--json"], check=True, stdout=subprocess.PIPE).stdout)
        self.draws = min(max(int(CALL_SECONDS * once["draws_per_second"]),
                             2048), 200000)

    def until(self, what, reason, seconds=300):
        end = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), end, reason)
            time.sleep(0.05)

    def busy(self, replica):
        """In the middle of some calls."""
        before = replica.figure("latticed_configurations_delivered_total")
        self.until(lambda: replica.figure("latticed_configurations_delivered_total") > before + 256
                   and replica.figure("latticed_rpc_in_flight") > 0,
                   "it draws nothing")

    def publish(self):
        subprocess.run([ARGUMENTS.publish_again, self.repository, MODEL, "1",
                        self.repository, MODEL], check=True)

    def check(self, about, versions):
        """All draws of all calls: complete, of streams of their own, and to the
        byte what a server draws for that digest, stream and index."""
        for call in about:
            self.assertTrue(call["complete"])
            self.assertEqual(call["draws"], self.draws)
            self.assertEqual(call["provenance"]["first_index"], "0")
            self.assertEqual(len(call["provenance"]["digest"]), 64)
        streams = {call["stream_id"] for call in about}
        self.assertEqual(len(streams), len(about))
        self.assertEqual({call["provenance"]["version"] for call in about},
                         versions)
        # Whole files, so that a block that came twice or went missing shows:
        # those that were resumed, and a few others.
        resumed = [n for n, call in enumerate(about) if call["resumes"] > 0]
        # Drawn again where nothing has happened: a restarted server has only
        # what is live.
        witnesses = {}
        for version in versions:
            repository = tempfile.mkdtemp(dir=self.folder)
            shutil.copytree(f"{self.repository}/{MODEL}/{version}",
                            f"{repository}/{MODEL}/{version}")
            witnesses[version] = Server(
                ARGUMENTS.latticed, repository=repository,
                stderr=subprocess.DEVNULL, flags=("--gate_draws=0",))
            self.addCleanup(witnesses[version].stop)
        for n in sorted({*resumed[:4], *range(0, len(about), 7)})[:8]:
            path = os.path.join(tempfile.mkdtemp(dir=self.folder), "again.npz")
            subprocess.run(
                [ARGUMENTS.latticectl, "sample", "--server",
                 witnesses[about[n]["provenance"]["version"]].address,
                 "--model", MODEL, "--digest",
                 about[n]["provenance"]["digest"], "--stream_id",
                 about[n]["stream_id"], "--count", str(self.draws),
                 "--output", path, "--quiet"], check=True)
            first = next(w for w in about[n]["command"].split()
                         if w.endswith(".npz"))
            with numpy.load(first) as a, numpy.load(path) as b:
                for name in ("phi", "log_q", "action"):
                    self.assertEqual(a[name].tobytes(), b[name].tobytes(),
                                     (n, name))
        return resumed

    def replica_dies(self, target):
        load = Load(self, target)
        try:
            # Three times, so that some stream is in the middle at one of them.
            for victim, others in ((1, (0, 2)), (2, (0, 1)), (0, (1, 2))):
                self.busy(self.replicas[victim])
                self.replicas[victim].kill()
                for other in others:
                    self.busy(self.replicas[other])
                self.replicas[victim].start()
            self.busy(self.replicas[0])  # it gets calls again
        finally:
            about = load.stop()
        self.assertTrue(self.check(about, {"1"}), "no stream was broken")

    def rolling_update(self, target):
        load = Load(self, target)
        try:
            self.busy(self.replicas[0])
            self.publish()
            for replica in self.replicas:
                self.until(lambda r=replica: 'slot="live",version="2"' in
                           r.page("/metrics"), "version 2 does not go live")
            old = load.open()  # what begins from now on is of version 2
            for replica in self.replicas:  # and a new build, say
                if replica is self.replicas[-1]:
                    # A replica that was started since has version 2 alone.
                    self.until(lambda: not old & load.open(),
                               "calls of version 1 do not end", 600)
                self.assertEqual(replica.end(), 0)
                replica.start()
                self.busy(replica)
        finally:
            about = load.stop()
        self.check(about, {"1", "2"})

    def test_clients_that_balance_themselves(self):
        self.replica_dies(BALANCED)

    @LONG
    def test_a_rolling_update_under_balancing_clients(self):
        self.rolling_update(BALANCED)

    def proxy(self, *command):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.send_signal, signal.SIGTERM)
        self.until(lambda: subprocess.run(
            [ARGUMENTS.latticectl, "health", "--server", f"{CLIENT}:7410",
             "--retry_for", "0"], capture_output=True).returncode == 0,
            "no way through the proxy")

    @LONG
    def test_behind_nginx(self):
        with open(f"{self.folder}/nginx.conf", "w") as file:
            file.write(f"pid {self.folder}/pid;\nerror_log /dev/null;\n"
                       "daemon off;\nevents {}\nhttp {\naccess_log off;\n"
                       f"include {ROOT}/deploy/nginx/latticed.conf;\n}}\n")
        self.proxy("nginx", "-c", f"{self.folder}/nginx.conf", "-p",
                   self.folder)
        self.replica_dies(f"{CLIENT}:7410")

    def test_behind_haproxy(self):
        self.proxy("haproxy", "-db", "-f", f"{ROOT}/deploy/haproxy/haproxy.cfg")
        self.rolling_update(f"{CLIENT}:7410")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("latticed", "latticectl", "publish_again"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    if INSIDE not in os.environ:
        in_a_network_of_its_own()
    unittest.main(argv=sys.argv[:1] +
                  [word for word in rest if word.startswith("Replicas")])
