"""A server on a repository with one small trained model."""

import os
import shutil
import signal
import subprocess
import tempfile

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "tiny.textproto")


def train(program, repository, model="tiny", spec=SPEC, flags=()):
    """Trains a model, about a second, and publishes it."""
    subprocess.run([program, "--spec", spec, "--repository", repository,
                    "--model", model, "--quiet", *flags], check=True)


class Server:
    """Serves `repository`, or a new one with the model `tiny` in it.

    The chain-token key and the ports outlive a `kill`, so that `start` is what
    a supervisor's restart would be. Ports are 0 at first: any free one.
    """

    def __init__(self, latticed, train_program=None, repository=None,
                 flags=(), environment=None, stderr=None, start=True):
        self.latticed = latticed
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
        self.process = subprocess.Popen(
            [self.latticed, "--repository", self.repository,
             "--listen", self.address, "--admin_listen", self.admin,
             "--http_listen", self.http, "--state_directory", self.state,
             *self.flags],
            stdout=subprocess.PIPE, stderr=self.stderr, text=True,
            env={**os.environ, **(self.environment or {})})

    def start(self):
        self.launch()
        line = self.process.stdout.readline().split()
        if line[:2] != ["latticed", "ready"]:
            raise RuntimeError(f"latticed said {line}")
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
