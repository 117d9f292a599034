#!/usr/bin/python3
"""latticectl against the real server: kills, restarts, signals, bad input."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import unittest

import numpy

from python_server import Server, train

ARGUMENTS = None  # of the command line


class Latticectl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(ARGUMENTS.latticed, ARGUMENTS.train)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"latticed exited {code} after SIGTERM"

    def path(self, name):
        return os.path.join(self.server.folder, name)

    def start(self, *arguments):
        return subprocess.Popen(
            [ARGUMENTS.latticectl, *arguments, "--server",
             self.server.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run_to_end(self, *arguments, code=0):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, code, err)
        return out, err

    def wait_for_data(self, name, size):
        """Until `size` bytes of an unfinished output have arrived."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            total = 0
            for folder, _, files in os.walk(self.server.folder):
                if f".{name}.partial-" not in folder:
                    continue
                for file in files:
                    try:
                        total += os.path.getsize(os.path.join(folder, file))
                    except FileNotFoundError:
                        pass
            if total >= size:
                return
            time.sleep(0.005)
        self.fail(f"{name} does not grow")

    def assert_same(self, a, b):
        left, right = numpy.load(self.path(a)), numpy.load(self.path(b))
        self.assertEqual(sorted(left.files), sorted(right.files))
        for name in left.files:
            self.assertEqual(left[name].tobytes(), right[name].tobytes(), name)

    def kill_and_restart_during(self, name, *arguments):
        process = self.start(*arguments, "--output", self.path(name))
        try:
            self.wait_for_data(name, 1 << 20)
            self.server.kill()
            time.sleep(0.3)
            self.server.start()
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
            process.wait()
        self.assertEqual(process.returncode, 0, err)
        with open(self.path(name + ".json")) as file:
            report = json.load(file)
        self.assertGreaterEqual(report["resumes"], 1)
        self.assertTrue(report["complete"])
        return err

    def test_draws_survive_a_killed_server(self):
        arguments = ("sample", "--model", "tiny", "--count", "60000",
                     "--stream", "survivor")
        err = self.kill_and_restart_during("broken.npz", *arguments)
        self.assertIn("again in", err)
        self.run_to_end(*arguments, "--output", self.path("whole.npz"))
        self.assert_same("broken.npz", "whole.npz")

    def test_a_chain_survives_a_killed_server(self):
        arguments = ("chain", "--model", "tiny", "--steps", "60000",
                     "--stream", "survivor")
        self.kill_and_restart_during("broken_chain.npz", *arguments)
        self.run_to_end(*arguments, "--output", self.path("whole_chain.npz"))
        self.assert_same("broken_chain.npz", "whole_chain.npz")

    def test_an_interrupted_client_keeps_complete_blocks(self):
        process = self.start("sample", "--model", "tiny", "--count", "1e8",
                             "--stream", "s", "--output",
                             self.path("short.npz"))
        self.wait_for_data("short.npz", 1 << 20)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        short = numpy.load(self.path("short.npz"))
        count = len(short["phi"])
        self.assertGreater(count, 0)
        self.assertEqual(len(short["log_q"]), count)
        with open(self.path("short.npz.json")) as file:
            report = json.load(file)
        self.assertFalse(report["complete"])
        self.assertEqual(report["draws"], count)
        self.assertFalse(
            [n for n in os.listdir(self.server.folder) if "partial" in n])

    def test_observables_agree_between_draws_and_chain(self):
        draws = json.loads(self.run_to_end(
            "sample", "--model", "tiny", "--count", "20000", "--stream", "a",
            "--json")[0])["summary"]
        chain = json.loads(self.run_to_end(
            "chain", "--model", "tiny", "--steps", "20000", "--stream", "b",
            "--json")[0])["summary"]
        for name in ("chi_2", "abs_M", "phi2", "link_energy",
                     "action_per_site", "m_p_L"):
            a, b = draws[name], chain[name]
            error = (a["error"] ** 2 + b["error"] ** 2) ** 0.5
            self.assertLess(abs(a["value"] - b["value"]), 5 * error, name)
        # The independent draws predict the chain's acceptance.
        a, b = draws["acceptance"], chain["acceptance"]
        self.assertLess(abs(a["value"] - b["value"]),
                        5 * (a["error"] ** 2 + b["error"] ** 2) ** 0.5)

    def test_bad_input_says_what_to_try(self):
        for arguments, words in (
                (("sample", "--model", "nope", "--count", "5"),
                 ("nope", "tiny")),
                (("sample", "--model", "tiny", "--count", "5",
                  "--expect_lattice", "8x16"), ("8x16", "8x8")),
                (("sample", "--model", "tiny", "--count", "5",
                  "--expect_action", "m2=-4,lambda=6.1"), ("6.1", "6.008")),
                (("sample", "--model", "tiny", "--count", "5", "--version",
                  "7"), ("7",)),
                (("sample", "--model", "tiny", "--count", "5", "--first_index",
                  str(2**64 - 1)), ("first_index",))):
            _, err = self.run_to_end(*arguments, code=1)
            for word in words:
                self.assertIn(word, err)
            self.assertNotIn("CHECK", err)
        # The right guards pass, and the server goes on serving.
        self.run_to_end("sample", "--model", "tiny", "--count", "5",
                        "--expect_lattice", "8x8", "--expect_action",
                        "m2=-4,lambda=6.008")

    def test_health_of_a_server_a_model_and_nothing(self):
        def health(*arguments, code=0):
            return self.run_to_end("health", *arguments, code=code)[0]

        serving = f"{self.server.address} SERVING\n"
        self.assertEqual(health(), serving)
        self.assertEqual(health("--alive"), serving)
        self.assertEqual(health("--model", "tiny"), serving)
        _, err = self.run_to_end("health", "--model", "none", code=1)
        self.assertIn("tiny", err)  # what there is
        _, err = self.run_to_end("health", "--alive", "--model", "a", code=1)
        self.assertIn("give one of them", err)

        empty = Server(ARGUMENTS.latticed, repository=self.path("empty"),
                       start=False)
        self.addCleanup(empty.stop)
        os.makedirs(empty.repository)
        empty.start()
        ctl = [ARGUMENTS.latticectl, "--server", empty.address, "health"]
        for flags, code, word in (((), 2, "NOT_SERVING"),
                                  (("--alive",), 0, "SERVING")):
            said = subprocess.run([*ctl, *flags], capture_output=True,
                                  text=True, timeout=60)
            self.assertEqual((said.returncode, said.stdout),
                             (code, f"{empty.address} {word}\n"), said.stderr)
        # Waits for the server, longer than other commands do for one that never
        # answered, then for its model.
        empty.kill()
        waits = subprocess.Popen([*ctl, "--retry_for", "60"],
                                 stdout=subprocess.PIPE, text=True)
        gone = subprocess.run(ctl, capture_output=True, text=True, timeout=60)
        self.assertEqual(gone.returncode, 2, gone.stderr)
        time.sleep(5)
        empty.start()
        train(ARGUMENTS.train, empty.repository)
        out, _ = waits.communicate(timeout=60)
        self.assertEqual((waits.returncode, out),
                         (0, f"{empty.address} SERVING\n"))

    def test_a_token_of_another_key_is_refused(self):
        token = self.path("forged.token")
        self.run_to_end("chain", "--model", "tiny", "--steps", "5",
                        "--token_file", token)
        with open(token) as file:
            text = file.read()
        flipped = text[:40] + ("0" if text[40] != "0" else "1") + text[41:]
        with open(token, "w") as file:
            file.write(flipped)
        _, err = self.run_to_end("chain", "--steps", "5", "--token_file",
                                 token, code=1)
        self.assertIn("token", err)
        with open(token) as file:
            self.assertEqual(file.read(), flipped)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("latticed", "train", "latticectl"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("protos", "protoc", "grpc_plugin"):  # python_client_test's
        parser.add_argument(f"--{name}")
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0]] + rest)
