"""Podman, and what tests of the images ask of it."""

import os
import re
import socket
import subprocess
import threading
import time
import unittest
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
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
