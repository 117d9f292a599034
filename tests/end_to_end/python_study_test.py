#!/usr/bin/python3
"""latticed-train study as a process: errors, signals, a full disk."""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import python_faults

ARGUMENTS = None  # of the command line
ENOSPC = 28


class Study(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="latticed-study-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.output = os.path.join(self.folder, "output")

    def start(self, *arguments, environment=None):
        return subprocess.Popen(
            [ARGUMENTS.train, "study", *arguments, "--output", self.output,
             "--threads", "1"],
            stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})})

    def run_study(self, *arguments, **keywords):
        process = self.start(*arguments, **keywords)
        _, err = process.communicate(timeout=240)
        return process.returncode, err

    def rows(self, study, table):
        path = os.path.join(self.output, study, table)
        with open(path + ".json") as file:
            rows = json.load(file)["rows"]
        with open(path + ".csv", newline="") as file:
            cells = list(csv.DictReader(file))
        self.assertEqual(len(rows), len(cells))
        for row, cell in zip(rows, cells):
            for column, text in cell.items():
                value = row.get(column, "")
                same = text == value if isinstance(value, str) else (
                    float(text) == value)
                self.assertTrue(same, (table, column, text, value))
        return rows

    def pieces(self, study):
        folder = os.path.join(self.output, study, "pieces")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def test_says_what_there_is(self):
        for arguments, said in (
                (("fig9",), "scaling"),
                ((), "the name of one study"),
                (("fig3", "--restart"), "are of trainings"),
                (("fig3", "--lattices", "4,five"), "'five' is no extent"),
                (("fig3", "--lattices", "5"), "4, 6, 8"),
                (("fig4", "--lattices", "4", "--budget", "1e-6"),
                 "too small for one step")):
            code, err = self.run_study(*arguments)
            self.assertEqual(code, 1, err)
            self.assertIn(said, err)

    def test_both_forms_of_the_data_agree(self):
        code, err = self.run_study("fig3", "--lattices", "4,6")
        self.assertEqual(code, 0, err)
        self.assertIn("[" + 10 * "#" + 10 * "." + "] 1/2 l6", err)
        self.assertIn("2/2 complete", err)
        self.assertEqual(len(self.rows("fig3", "orbits")), 16 + 36)
        [about] = self.rows("fig3", "study")
        self.assertIn("study fig3 --lattices 4,6", about["command"])
        self.assertEqual(about["missing"], "")

    def test_a_signal_keeps_what_was_complete(self):
        arguments = ("fig4", "--lattices", "4,6", "--budget", "0.2")
        process = self.start(*arguments)
        for line in process.stderr:
            if "phi4-l6: step 5," in line:
                break
        else:
            self.fail("it ended before step 5 of phi4-l6")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=240)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("1 of 2 pieces are kept, the same command goes on", err)
        self.assertEqual(self.pieces("fig4"), ["l4.json"])
        code, err = self.run_study(*arguments)
        self.assertEqual(code, 0, err)
        self.assertIn("resuming at step", err)
        self.assertNotIn("phi4-l4", err)  # its training was done
        self.assertEqual({row["L"] for row in self.rows("fig4", "momentum")},
                         {4, 6})

    def test_a_full_disk_keeps_what_was_complete(self):
        code, err = self.run_study("fig3", "--lattices", "4")
        self.assertEqual(code, 0, err)
        disk = python_faults.Disk(ARGUMENTS.shim, self.output,
                                  os.path.join(self.folder, "control"))
        with disk.misbehaves(f"error {ENOSPC} write"):
            code, err = self.run_study("fig3", "--lattices", "4,6",
                                       environment=disk.environment)
        self.assertEqual(code, 2, err)
        self.assertIn("No space left on device", err)
        self.assertIn("1 of 2 pieces are kept", err)
        self.assertEqual(self.pieces("fig3"), ["l4.json"])
        self.assertEqual(len(self.rows("fig3", "orbits")), 16)
        code, err = self.run_study("fig3", "--lattices", "4,6")
        self.assertEqual(code, 0, err)
        self.assertEqual(len(self.rows("fig3", "orbits")), 16 + 36)

    def test_a_full_disk_in_a_training_keeps_its_state(self):
        disk = python_faults.Disk(ARGUMENTS.shim, self.output,
                                  os.path.join(self.folder, "control"))
        arguments = ("fig4", "--lattices", "4", "--budget", "0.2")
        process = self.start(*arguments, environment=disk.environment)
        for line in process.stderr:
            if "phi4-l4: step 5," in line:
                break
        else:
            self.fail("it ended before step 5 of phi4-l4")
        with disk.misbehaves(f"error {ENOSPC} write"):
            _, err = process.communicate(timeout=240)
        self.assertEqual(process.returncode, 2, err)
        self.assertIn("No space left on device", err)
        self.assertEqual(self.pieces("fig4"), [])
        code, err = self.run_study(*arguments)
        self.assertEqual(code, 0, err)
        self.assertIn("resuming at step", err)
        self.assertEqual(self.pieces("fig4"), ["l4.json"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("train", "shim"):
        parser.add_argument(f"--{name}", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0]] + rest)
