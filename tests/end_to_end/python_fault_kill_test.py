#!/usr/bin/python3
"""F20: the server killed over and over under latticectl; the files are those of
a run that nothing disturbed."""

import contextlib
import json
import os
import random
import subprocess
import time

import numpy

import python_faults
from python_faults import LONG, FaultTest, figure, until
from python_server import Server

KILLS = 200 if LONG else 6  # under one of the two commands: ten seconds' worth


class KilledServer(FaultTest):
    def setUp(self):
        # A restart is quick without the gate.
        self.server = Server(self.arguments.latticed, self.arguments.train,
                             flags=("--gate_draws", "0"))
        self.addCleanup(self.server.stop)

    def start(self, *arguments):
        return subprocess.Popen(
            [self.arguments.latticectl, *arguments, "--server",
             self.server.address, "--retry_for", "120"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def size(self, name):
        """Bytes of an unfinished output."""
        found = 0
        for folder, _, files in os.walk(self.folder):
            if f".{name}.partial-" in folder:
                for file in files:
                    with contextlib.suppress(FileNotFoundError):
                        found += os.path.getsize(os.path.join(folder, file))
        return found

    def receiving(self, processes, sizes):
        """Names of the outputs that have grown beyond `sizes`, as soon as
        there are any; none once all commands have ended."""
        while any(process.poll() is None for process in processes.values()):
            grown = [name for name, process in processes.items()
                     if process.poll() is None
                     and self.size(name) > sizes[name]]
            if grown:
                return grown
            time.sleep(0.002)
        return []

    def test_sample_and_chain(self):
        """Both at once: a restart takes longer than what happens in between."""
        count = str(100000 + KILLS * 10000)
        commands = {
            "sample.npz": ("sample", "--count", count),
            "chain.npz": ("chain", "--steps", count)}
        for command in commands:
            commands[command] += ("--model", "tiny", "--stream", "hunted",
                                  "--output")
        chance = random.Random(7)
        processes = {name: self.start(*arguments, self.path(name))
                     for name, arguments in commands.items()}
        # A server that never answered is not waited for that long.
        until(lambda: all(self.size(name) > 0 for name in processes),
              "both receive", 120)
        sizes = {name: self.size(name) for name in processes}
        # Kills of the server while a command was receiving.
        hits = dict.fromkeys(processes, 0)
        try:
            while (sum(hits.values()) < KILLS
                   or min(hits.values()) < KILLS // 4):
                time.sleep(chance.uniform(0, 0.1))
                hit = self.receiving(processes, sizes)
                if not hit:
                    break
                self.server.kill()
                for name in hit:
                    hits[name] += 1
                sizes = {name: self.size(name) for name in processes}
                self.server.start()
            for process in processes.values():
                _, err = process.communicate(timeout=600)
                self.assertEqual(process.returncode, 0, err)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
        self.assertGreaterEqual(sum(hits.values()), KILLS)
        for name, arguments in commands.items():
            process = self.start(*arguments, self.path("whole-" + name))
            _, err = process.communicate(timeout=600)
            self.assertEqual(process.returncode, 0, err)
            size = self.compare(self.path(name), self.path("whole-" + name))
            with open(self.path(name + ".json")) as file:
                report = json.load(file)
            self.assertTrue(report["complete"])
            # Fewer, and the run was too short to say anything.
            self.assertGreaterEqual(hits[name], KILLS // 4)
            # The last one may come when all has been sent.
            self.assertGreaterEqual(report["resumes"], hits[name] - 1)
            figure(f"F20 latticectl {arguments[0]}: {hits[name]} kill -9 of "
                   f"the server, {report['resumes']} attempts to resume, "
                   f"{size >> 20} MiB identical to an undisturbed run")

    def compare(self, broken, whole):
        size = 0
        with numpy.load(broken) as left, numpy.load(whole) as right:
            self.assertEqual(sorted(left.files), sorted(right.files))
            for name in left.files:
                a, b = left[name], right[name]
                size += a.nbytes
                self.assertEqual((a.dtype, a.shape), (b.dtype, b.shape))
                self.assertTrue(
                    numpy.array_equal(a.reshape(-1).view("u1"),
                                      b.reshape(-1).view("u1")), name)
        return size


if __name__ == "__main__":
    python_faults.main()
