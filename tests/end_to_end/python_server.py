"""A server on a repository with one small trained model."""

import os
import shutil
import signal
import subprocess
import tempfile


class Server:
    """Trains and publishes model `tiny`, then serves it.

    The chain-token key and the port outlive a `kill`, so that `start` is what
    a supervisor's restart would be.
    """

    def __init__(self, latticed, train):
        self.latticed = latticed
        self.folder = tempfile.mkdtemp(prefix="latticed-end-to-end-")
        self.repository = os.path.join(self.folder, "models")
        self.address = "127.0.0.1:0"
        self.process = None
        try:
            spec = os.path.join(os.path.dirname(__file__), "tiny.textproto")
            subprocess.run([train, "--spec", spec, "--repository",
                            self.repository, "--model", "tiny", "--quiet"],
                           check=True)
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        state = os.path.join(self.folder, "state")
        os.makedirs(state, exist_ok=True)
        self.process = subprocess.Popen(
            [self.latticed, "--repository", self.repository,
             "--listen", self.address, "--http_listen", "127.0.0.1:0",
             "--admin_listen", "127.0.0.1:0", "--state_directory", state],
            stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        if line[:2] != ["latticed", "ready"]:
            raise RuntimeError(f"latticed said {line}")
        self.address = dict(word.split("=") for word in line[2:])["grpc"]

    def kill(self):
        """As the kernel does it when memory runs out."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process = None

    def stop(self):
        """The exit code after SIGTERM."""
        code = 0
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(timeout=60)
            self.process.stdout.close()
            self.process = None
        shutil.rmtree(self.folder, ignore_errors=True)
        return code
