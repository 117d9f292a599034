"""What the fault tests have in common: a disk that misbehaves, publications,
metrics, and clients that draw all the time."""

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

from python_server import SPEC, connect, train
from python_stubs import generate_stubs

LONG = os.environ.get("LATTICED_LONG_TESTS") == "1"


def figure(text):
    """A measured number, for whoever reads the test's output."""
    print(f"figure: {text}", flush=True)


def until(condition, what, seconds=120):
    """Waits until `condition()` is true, and returns what it returned. The time
    is patience with sanitizers and busy cores, not what is promised."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


class Disk:
    """The directory `directory` as fault_shim.c shows it to a process that is
    started with `environment`."""

    def __init__(self, shim, directory, control):
        self.directory = os.path.realpath(directory)
        self.control = control
        self.environment = {
            "LD_PRELOAD": shim,
            "LATTICED_FAULT_DIRECTORY": self.directory,
            "LATTICED_FAULT_CONTROL": control,
            # The address sanitizer wants to be first; its interceptors work
            # behind the shim's as well.
            "ASAN_OPTIONS": "verify_asan_link_order=0",
        }

    @contextlib.contextmanager
    def misbehaves(self, how):
        """`how`: a line of the control file. By rename: never half of it."""
        with open(self.control + ".new", "w") as file:
            file.write(how + "\n")
        os.rename(self.control + ".new", self.control)
        try:
            yield
        finally:
            os.remove(self.control)


def versions(repository, model="tiny"):
    folder = os.path.join(repository, model)
    if not os.path.isdir(folder):
        return []
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit())


def digest(repository, version, model="tiny"):
    path = os.path.join(repository, model, str(version), "manifest.json")
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def deliver(source, repository, version, model="tiny"):
    """Publishes a version of another repository, by rename like the trainer."""
    target = os.path.join(repository, model)
    os.makedirs(target, exist_ok=True)
    temporary = os.path.join(target, ".tmp-delivery")
    shutil.copytree(os.path.join(source, model, str(version)), temporary)
    os.rename(temporary, os.path.join(target, str(version)))


def train_versions(program, repository, folder):
    """Versions 1, 2 and 3 of `tiny`, each better than the one before."""
    with open(SPEC) as file:
        text = file.read()
    for number, steps in enumerate((20, 60, 150), 1):
        assert "steps: 60 " in text
        spec = os.path.join(folder, f"steps-{steps}.textproto")
        with open(spec, "w") as file:
            file.write(text.replace("steps: 60 ", f"steps: {steps} "))
        train(program, repository, spec=spec,
              flags=("--state_directory", folder, "--restart"))
        assert versions(repository) == list(range(1, number + 1))


def metrics(server):
    """Samples by series, `name{label="value"}`."""
    with urllib.request.urlopen(f"http://{server.http}/metrics",
                                timeout=30) as reply:
        text = reply.read().decode()
    return {series: float(value)
            for series, value in (line.rsplit(" ", 1)
                                  for line in text.splitlines()
                                  if line and not line.startswith("#"))}


def total(samples, name, **labels):
    """The sum of the series of a family with these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    found = [value for series, value in samples.items()
             if series.split("{")[0] == name
             and all(label in series for label in wanted)]
    if not found:
        raise AssertionError(f"there is no {name} {labels}")
    return sum(found)


def live_digest(server):
    """The first 12 digits of the live version's; "" if there is none."""
    for series in metrics(server):
        if series.startswith("latticed_model_info{") and \
                'slot="live"' in series:
            return series.split('digest="')[1][:12]
    return ""


def error_info(error):
    """The ErrorInfo of a grpc.RpcError."""
    from google.rpc import error_details_pb2, status_pb2
    status = status_pb2.Status()
    status.ParseFromString(
        dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return info
    raise AssertionError(f"no ErrorInfo: {error}")


class Traffic:
    """Draws of one stream, over and over, on a thread: every reply is checked
    against the first one of its digest. `longest` is the longest time between
    two replies."""

    def __init__(self, address, count=64):
        from latticed.v1 import sampler_pb2, sampler_pb2_grpc
        self.channel = connect(address)
        stub = sampler_pb2_grpc.SamplerServiceStub(self.channel)
        request = sampler_pb2.SampleRequest(
            model=sampler_pb2.ModelSelector(model="tiny"), count=count,
            stream=sampler_pb2.RngStream(name="traffic"))
        self.draws = 0
        self.longest = 0.0
        self.failure = None
        self.first = {}  # payload by digest
        self.ending = threading.Event()

        def run():
            last = time.monotonic()
            while not self.ending.is_set():
                try:
                    reply = stub.Sample(request, timeout=20)
                    payload = reply.block.phi + reply.block.log_q
                    same = self.first.setdefault(reply.provenance.digest,
                                                 payload)
                    if payload != same:
                        raise AssertionError("the same draw, other bytes")
                except Exception as error:  # for whoever joins
                    self.failure = error
                    return
                now = time.monotonic()
                self.longest = max(self.longest, now - last)
                last = now
                self.draws += count

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def end(self):
        self.ending.set()
        self.thread.join()
        self.channel.close()
        if self.failure is not None:
            raise self.failure
        return self.draws


class FaultTest(unittest.TestCase):
    """`arguments` of the command line; a folder and stubs for the class."""

    arguments = None

    @classmethod
    def setUpClass(cls):
        cls.folder = os.path.realpath(
            tempfile.mkdtemp(prefix="latticed-faults-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        stubs = os.path.join(cls.folder, "stubs")
        os.makedirs(stubs)
        generate_stubs(cls.arguments, stubs)

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.folder, *names)


def main():
    parser = argparse.ArgumentParser()
    for name in ("latticed", "train", "latticectl", "protos", "protoc",
                 "grpc_plugin", "shim", "publish_again", "clock_shim",
                 "prometheus", "promtool", "rules"):
        parser.add_argument(f"--{name}")
    FaultTest.arguments, rest = parser.parse_known_args()
    unittest.main(module="__main__", argv=[sys.argv[0]] + rest)
