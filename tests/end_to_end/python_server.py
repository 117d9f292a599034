"""A server on a repository with one small trained model."""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "tiny.textproto")
# Seconds until a server says that it is ready: sanitizers and busy cores.
START_MAX = 300


def free_port():
    """Below those that the system gives to clients and to tests beside this:
    it is still free when a server comes back to it."""
    while True:
        free_port.next = (free_port.next + 1) % 10000
        with socket.socket() as probe:
            try:
                probe.bind(("", 20000 + free_port.next))
            except OSError:
                continue
            return 20000 + free_port.next


free_port.next = os.getpid() * 61 % 10000


def connect(address, options=()):
    """A channel to a server that is there. gRPC 1.51 looks at errno not at once
    after connect(): now and then it takes a connection that is being made for
    one that failed. The next attempt is good: latticectl retries."""
    import grpc
    channel = grpc.insecure_channel(
        address, options=[("grpc.initial_reconnect_backoff_ms", 100), *options])
    grpc.channel_ready_future(channel).result(timeout=60)
    return channel


def train(program, repository, model="tiny", spec=SPEC, flags=()):
    """Trains a model, about a second, and publishes it."""
    subprocess.run([program, "--spec", spec, "--repository", repository,
                    "--model", model, "--quiet", *flags], check=True)


def long_spec(folder):
    """tiny.textproto, long enough to be interrupted, with a line a step."""
    with open(SPEC) as file:
        text = file.read()
    text, n = re.subn(r"steps: 60 ", "steps: 400 ", text)
    text, m = re.subn(r"log_every_steps: 20", "log_every_steps: 1", text)
    assert (n, m) == (1, 1)
    path = os.path.join(folder, "spec.textproto")
    with open(path, "w") as file:
        file.write(text)
    return path


class Server:
    """Serves `repository`, or a new one with the model `tiny` in it.

    The chain-token key and the ports outlive a `kill`, so that `start` is what
    a supervisor's restart would be. Port 0 is any free one, chosen at the first
    launch.
    """

    def __init__(self, latticed, train_program=None, repository=None,
                 flags=(), environment=None, stderr=None, start=True):
        self.command = [latticed]  # a subclass may put another in front
        self.folder = os.path.realpath(
            tempfile.mkdtemp(prefix="latticed-end-to-end-"))
        self.repository = repository or os.path.join(self.folder, "models")
        self.state = os.path.join(self.folder, "state")
        self.flags = list(flags)
        self.environment = environment
        self.stderr = stderr
        self.address = self.admin = self.http = "127.0.0.1:0"
        self.process = None
        os.makedirs(self.state)
        try:
            if repository is None:
                train(train_program, self.repository)
            if start:
                self.start()
        except BaseException:
            self.stop()
            raise

    def launch(self):
        """The process, which may not be ready yet."""
        for name in ("address", "admin", "http"):
            host, port = getattr(self, name).split(":")
            if port == "0":
                setattr(self, name, f"{host}:{free_port()}")
        self.process = subprocess.Popen(
            [*self.command, "--repository", self.repository,
             "--listen", self.address, "--admin_listen", self.admin,
             "--http_listen", self.http, "--state_directory", self.state,
             *self.flags],
            stdout=subprocess.PIPE, stderr=self.stderr, text=True,
            env={**os.environ, **(self.environment or {})})

    def start(self):
        before = self.address, self.admin, self.http
        for tries in range(5):
            self.launch()
            if not select.select([self.process.stdout], [], [], START_MAX)[0]:
                self.kill()
                raise RuntimeError(f"latticed said nothing in {START_MAX} s")
            line = self.process.stdout.readline().split()
            if line[:2] == ["latticed", "ready"]:
                break
            # A port that was free a moment ago may not be any more.
            code = self.process.wait(timeout=START_MAX)
            if code != 2 or tries == 4 or before == (
                    self.address, self.admin, self.http):
                raise RuntimeError(f"latticed said {line} and ended with "
                                   f"{code}")
            self.process.stdout.close()
            self.address, self.admin, self.http = before
        words = dict(word.split("=") for word in line[2:])
        self.address, self.admin, self.http = (
            words["grpc"], words["admin"], words["http"])

    def kill(self):
        """As the kernel does it when memory runs out."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process = None

    def end(self, timeout=60):
        """The exit code after SIGTERM; the files stay."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()  # or ctest would wait for its output for ever
            raise
        self.process.stdout.close()
        self.process = None
        return code

    def stop(self):
        """The exit code after SIGTERM."""
        code = 0
        try:
            if self.process is not None:
                code = self.end()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        return code
