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
import threading
import unittest
import urllib.request

from python_server import long_spec

ARGUMENTS = None  # of the command line
# Seconds for anything a process is waited for: sanitizers and busy cores.
PATIENCE = 900


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
        try:
            _, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, err

    def until(self, process, pattern):
        """The match in the first line that has one."""
        limit = threading.Timer(PATIENCE, process.kill)  # ends its output
        limit.start()
        try:
            for line in process.stderr:
                match = re.search(pattern, line)
                if match:
                    return match
        finally:
            limit.cancel()
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
        self.assertEqual(code, 2)
        self.assertIn(f"cannot listen on 127.0.0.1:{port}", err)
        for address, said in (("0.0.0.0:0", "--insecure_allow_remote"),
                              ("nowhere", "host:port")):
            code, err = self.finish(self.start("none", "--http_listen",
                                               address))
            self.assertEqual(code, 1)
            self.assertIn(said, err)
        self.assertEqual(self.versions("none"), [])

    def test_what_may_come_later_is_no_bad_input(self):
        for repository, spec, code, said in (
                ("absent", os.path.join(self.folder, "none.textproto"), 2,
                 "none.textproto"),
                ("bad", __file__, 1, "python_train_test.py"),
                # No process may create a directory there.
                ("/proc/latticed", self.spec, 2, "cannot be created"),
                ("/dev/null/r", self.spec, 1, "cannot be created")):
            done = subprocess.run(
                [ARGUMENTS.train, "--spec", spec, "--repository",
                 os.path.join(self.folder, repository), "--model", "tiny"],
                capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(said, done.stderr)
        version = subprocess.run([ARGUMENTS.train, "--version"],
                                 capture_output=True, text=True)
        self.assertRegex(version.stdout, r"^latticed-train \d+\.\d+\.\d+\+")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("train", "promtool"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0]] + rest)
