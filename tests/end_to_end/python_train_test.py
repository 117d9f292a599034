#!/usr/bin/python3
"""latticed-train as a process: signals, resumption, metrics, bad addresses."""

import argparse
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.request

ARGUMENTS = None  # of the command line
SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "tiny.textproto")


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


class Train(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="latticed-train-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.spec = long_spec(self.folder)

    def start(self, repository, *arguments):
        return subprocess.Popen(
            [ARGUMENTS.train, "--spec", self.spec, "--repository",
             os.path.join(self.folder, repository), "--model", "tiny",
             *arguments],
            stderr=subprocess.PIPE, text=True)

    def finish(self, process):
        _, err = process.communicate(timeout=240)
        return process.returncode, err

    def until(self, process, pattern):
        """The match in the first line that has one."""
        for line in process.stderr:
            match = re.search(pattern, line)
            if match:
                return match
        self.fail(f"latticed-train ended before it said {pattern}")

    def weights(self, repository):
        path = os.path.join(self.folder, repository, "tiny", "1",
                            "weights.safetensors")
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def versions(self, repository):
        folder = os.path.join(self.folder, repository, "tiny")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def test_signals_publish_nothing_and_the_same_command_goes_on(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start("stopped")
            self.until(process, r"^step \d+/400")
            process.send_signal(number)
            code, err = self.finish(process)
            self.assertEqual(code, 130, err)
            self.assertIn("the same command continues", err)
            self.assertEqual(self.versions("stopped"), [])
        code, err = self.finish(self.start("stopped"))
        self.assertEqual(code, 0, err)
        code, err = self.finish(self.start("whole"))
        self.assertEqual(code, 0, err)
        self.assertEqual(self.versions("stopped"), ["1"])
        self.assertEqual(self.weights("stopped"), self.weights("whole"))

    def test_a_second_signal_ends_it_at_once(self):
        process = self.start("killed")
        self.until(process, r"^step \d+/400")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        code, err = self.finish(process)
        # The first may have ended it before the second came.
        self.assertIn(code, (-signal.SIGINT, 130), err)
        self.assertEqual(self.versions("killed"), [])

    def test_metrics_are_served_while_it_trains(self):
        process = self.start("metrics", "--http_listen", "127.0.0.1:0")
        url = self.until(process, r"metrics on (http://\S+)").group(1)
        self.until(process, r"^step 3/400")
        with urllib.request.urlopen(url, timeout=30) as reply:
            text = reply.read().decode()
        process.send_signal(signal.SIGINT)
        self.finish(process)
        ess = re.search(r'^latticed_train_ess_ratio{model="tiny"} (\S+)$',
                        text, re.MULTILINE)
        self.assertIsNotNone(ess, text)
        self.assertTrue(0 < float(ess.group(1)) <= 1, text)
        self.assertRegex(
            text, r'(?m)^latticed_train_published_versions_total\S+ 0$')
        lint = subprocess.run([ARGUMENTS.promtool, "check", "metrics"],
                              input=text, capture_output=True, text=True)
        self.assertEqual((lint.returncode, lint.stdout + lint.stderr), (0, ""))

    def test_addresses_it_cannot_or_may_not_listen_on(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            code, err = self.finish(
                self.start("none", "--http_listen", f"127.0.0.1:{port}"))
        self.assertEqual(code, 1)
        self.assertIn(f"cannot listen on 127.0.0.1:{port}", err)
        for address, said in (("0.0.0.0:0", "--insecure_allow_remote"),
                              ("nowhere", "host:port")):
            code, err = self.finish(self.start("none", "--http_listen",
                                               address))
            self.assertEqual(code, 1)
            self.assertIn(said, err)
        self.assertEqual(self.versions("none"), [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("train", "promtool"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0]] + rest)
